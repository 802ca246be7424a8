//! A blob on its way into the bucket.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::CompletedPart;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use souk_protocol::Digest;
use souk_protocol::manifest::blob_path;

use super::bucket::{Bucket, sha256};
use super::failure::{S3Failure, Trouble};
use crate::objects::StagedBlob;

/// Gathers a part in memory at a time. What fits into one never becomes a multipart upload.
pub(super) struct S3Staged {
    store: Arc<Bucket>,
    /// Its name below `staging/`.
    name: String,
    part: BytesMut,
    size_bytes: u64,
    upload: Option<Multipart>,
}

/// A blob that a client sent and that is complete below `staging/`, where it stays until its upload is discarded.
pub(super) struct InStaging {
    pub(super) store: Arc<Bucket>,
    pub(super) name: String,
    pub(super) size_bytes: u64,
}

#[async_trait]
impl StagedBlob for InStaging {
    async fn write(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Err(io::Error::other("a blob that is complete was to be written"))
    }

    async fn commit(self: Box<Self>, digest: &Digest) -> io::Result<()> {
        Ok(self.store.place(&self.name, digest, self.size_bytes).await?)
    }
}

/// A multipart upload that runs. Dropped, it is ended in the background.
struct Multipart {
    store: Arc<Bucket>,
    name: String,
    id: String,
    parts: Vec<CompletedPart>,
    /// Whether it has become an object, or nothing is left of it.
    ended: bool,
}

impl S3Staged {
    pub(super) fn new(store: Arc<Bucket>, name: String) -> Self {
        Self { store, name, part: BytesMut::new(), size_bytes: 0, upload: None }
    }

    fn part_bytes(&self) -> usize {
        usize::try_from(self.store.settings.part_bytes).unwrap_or(usize::MAX)
    }

    /// Sends what was gathered as the next part.
    async fn send_part(&mut self) -> Result<(), S3Failure> {
        let bytes = self.part.split().freeze();
        let upload = match &mut self.upload {
            Some(upload) => upload,
            None => self.upload.insert(Multipart::begin(&self.store, &self.name).await?),
        };
        upload.send(bytes).await
    }
}

#[async_trait]
impl StagedBlob for S3Staged {
    async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.size_bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            // Sent only when more comes: a blob of exactly one part is a small one.
            if self.part.len() == self.part_bytes() {
                self.send_part().await?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.part_bytes() - self.part.len()));
            self.part.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    async fn commit(mut self: Box<Self>, digest: &Digest) -> io::Result<()> {
        if self.upload.is_some() {
            self.send_part().await?;
        }
        let Some(upload) = self.upload.take() else {
            let bytes = std::mem::take(&mut self.part).freeze();
            return Ok(put_blob(&self.store, digest, bytes).await?);
        };
        upload.complete(self.size_bytes).await?;
        place(&self.store, &self.name, digest, self.size_bytes).await
    }
}

/// Has the server move a complete object below `staging/` to its digest. Nothing stays of one that cannot be moved.
async fn place(store: &Bucket, name: &str, digest: &Digest, size_bytes: u64) -> io::Result<()> {
    let placed = store.place(name, digest, size_bytes).await;
    let removed = store.delete(name).await;
    match (placed, removed) {
        (Ok(()), removed) => Ok(removed?),
        (Err(failure), removed) => {
            if let Err(error) = removed {
                tracing::warn!(%error, "What was staged could not be removed; the collector tries again");
            }
            Err(failure.into())
        }
    }
}

/// Puts a small blob in place. One that is there already stays, unless it is damaged.
async fn put_blob(store: &Bucket, digest: &Digest, bytes: Bytes) -> Result<(), S3Failure> {
    let name = blob_path(digest);
    let size_bytes = bytes.len() as u64;
    match store.put(&name, bytes.clone(), digest.as_bytes(), true).await {
        Err(failure) if *failure.trouble() == Trouble::AlreadyThere => {
            if store.is_in_place(digest, size_bytes).await? {
                return Ok(());
            }
            store.put(&name, bytes, digest.as_bytes(), false).await
        }
        put => put,
    }
}

impl Multipart {
    async fn begin(store: &Arc<Bucket>, name: &str) -> Result<Self, S3Failure> {
        let id = store.begin_multipart(name).await?;
        Ok(Self { store: store.clone(), name: name.to_owned(), id, parts: Vec::new(), ended: false })
    }

    async fn send(&mut self, bytes: Bytes) -> Result<(), S3Failure> {
        let store = &self.store;
        let number = i32::try_from(self.parts.len() + 1).unwrap_or(i32::MAX);
        let sum = BASE64_STANDARD.encode(sha256(&bytes));
        let request = store.client.upload_part().bucket(&store.address.bucket).key(store.key(&self.name));
        let request = request.upload_id(&self.id).part_number(number).checksum_sha256(&sum);
        let sent = request.body(ByteStream::from(bytes)).send().await;
        let sent = sent.map_err(|error| store.failed("write a part of", &self.name, &error))?;
        let part = CompletedPart::builder().part_number(number).checksum_sha256(sum).set_e_tag(sent.e_tag);
        self.parts.push(part.build());
        Ok(())
    }

    /// Makes an object of it.
    async fn complete(mut self, size_bytes: u64) -> Result<(), S3Failure> {
        let parts = std::mem::take(&mut self.parts);
        let done = self.store.complete_multipart(&self.name, &self.id, parts, size_bytes).await;
        // From here on it is an object: who is killed before it is in place leaves it to the collector.
        self.ended = done.is_ok();
        done
    }
}

impl Drop for Multipart {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.ended {
            return;
        }
        let (store, name, id) = (self.store.clone(), std::mem::take(&mut self.name), std::mem::take(&mut self.id));
        runtime.spawn(async move {
            if let Err(error) = store.abort(&name, &id).await {
                tracing::warn!(%error, "What was staged could not be removed; the collector tries again");
            }
        });
    }
}
