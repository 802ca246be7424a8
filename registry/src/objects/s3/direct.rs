//! Uploads that go from a client straight into the bucket: a multipart upload below `staging/` whose parts the client
//! sends to addresses that are signed for it. Each address is good for one part of a stated length and SHA-256, and
//! for a while.
//!
//! One is found by its upload's id, at the cost of a request; who keeps the bucket's own id of it saves that. What is
//! not completed in time is discarded with all that the upload has staged.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::types::CompletedPart;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::bucket::Bucket;
use super::failure::{S3Failure, Trouble};
use super::staged::InStaging;
use super::{S3Store, read};
use crate::objects::{Begun, BlobReader, DirectPart, DirectUploads, PartAddress, StagedBlob};

fn name_of(upload: &str) -> String {
    format!("staging/{upload}.direct")
}

#[async_trait]
impl DirectUploads for S3Store {
    fn part_bytes(&self) -> u64 {
        self.bucket.settings.part_bytes
    }

    async fn begin(&self, upload: &str) -> io::Result<String> {
        Ok(self.bucket.begin_multipart(&name_of(upload)).await?)
    }

    async fn addresses(&self, of: Begun<'_>, parts: &[DirectPart], good_for: Duration) -> io::Result<Vec<PartAddress>> {
        let store = &self.bucket;
        let name = name_of(of.upload);
        let id = store_id(store, of).await?;
        let expires = PresigningConfig::expires_in(good_for).map_err(io::Error::other)?;
        let mut addresses = Vec::with_capacity(parts.len());
        for part in parts {
            let request = store.client.upload_part().bucket(&store.address.bucket).key(store.key(&name));
            let request = request.upload_id(&id).part_number(part.number.try_into().map_err(io::Error::other)?);
            let request = request.content_length(part.size_bytes.try_into().map_err(io::Error::other)?);
            let request = request.checksum_sha256(BASE64_STANDARD.encode(part.sha256));
            let signed = request.presigned(expires.clone()).await;
            let signed = signed.map_err(|error| store.failed("sign a part of", &name, &error))?;
            addresses.push(PartAddress {
                number: part.number,
                url: signed.uri().to_owned(),
                headers: signed.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            });
        }
        Ok(addresses)
    }

    async fn parts(&self, of: Begun<'_>) -> io::Result<Option<Vec<DirectPart>>> {
        match sent(&self.bucket, of).await? {
            Sent::Parts(_, parts) => Ok(Some(parts.into_iter().map(|(part, _)| part).collect())),
            Sent::Whole(_) => Ok(None),
        }
    }

    async fn complete(&self, of: Begun<'_>) -> io::Result<u64> {
        let (id, parts) = match sent(&self.bucket, of).await? {
            Sent::Parts(id, parts) => (id, parts),
            // An earlier call completed it, and the rest of it failed.
            Sent::Whole(size_bytes) => return Ok(size_bytes),
        };
        let size_bytes = parts.iter().map(|(part, _)| part.size_bytes).sum();
        let parts = parts.into_iter().map(|(_, completed)| completed).collect();
        self.bucket.complete_multipart(&name_of(of.upload), &id, parts, size_bytes).await?;
        Ok(size_bytes)
    }

    async fn open(&self, upload: &str) -> io::Result<BlobReader> {
        read::open(self.bucket.clone(), name_of(upload)).await
    }

    fn completed(&self, upload: &str, size_bytes: u64) -> Box<dyn StagedBlob> {
        Box::new(InStaging { store: self.bucket.clone(), name: name_of(upload), size_bytes })
    }
}

/// What there is of an upload.
enum Sent {
    /// The store's id of it, and what has arrived.
    Parts(String, Vec<(DirectPart, CompletedPart)>),
    /// It is one object of so many bytes.
    Whole(u64),
}

async fn sent(store: &Bucket, of: Begun<'_>) -> Result<Sent, S3Failure> {
    let name = name_of(of.upload);
    let found: Result<Sent, S3Failure> = async {
        let id = store_id(store, of).await?;
        let parts = store.parts(&name, &id).await?;
        Ok(Sent::Parts(id, parts))
    }
    .await;
    match found {
        Err(failure) if *failure.trouble() == Trouble::NoSuchUpload => {
            let head = store.head(&name).await?;
            head.map(|head| Sent::Whole(head.size_bytes)).ok_or(failure)
        }
        found => found,
    }
}

async fn store_id(store: &Bucket, of: Begun<'_>) -> Result<String, S3Failure> {
    match of.store_id {
        Some(id) => Ok(id.to_owned()),
        None => store.running(&name_of(of.upload)).await,
    }
}
