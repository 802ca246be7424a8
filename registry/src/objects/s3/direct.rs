//! Uploads that go from a client straight into the bucket: a multipart upload below `staging/` whose parts the client
//! sends to addresses that are signed for it. Each address is good for one part of a stated length and SHA-256, and
//! for a while.
//!
//! Nothing about one is kept elsewhere: it is found by its upload's id. What is not completed in time is discarded
//! with all that the upload has staged.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::presigning::PresigningConfig;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::staged::InStaging;
use super::{S3Store, read};
use crate::objects::{BlobReader, DirectPart, DirectUploads, PartAddress, StagedBlob};

fn name_of(upload: &str) -> String {
    format!("staging/{upload}.direct")
}

#[async_trait]
impl DirectUploads for S3Store {
    fn part_bytes(&self) -> u64 {
        self.bucket.settings.part_bytes
    }

    async fn begin(&self, upload: &str) -> io::Result<()> {
        self.bucket.begin_multipart(&name_of(upload)).await?;
        Ok(())
    }

    async fn addresses(&self, upload: &str, parts: &[DirectPart], good_for: Duration) -> io::Result<Vec<PartAddress>> {
        let store = &self.bucket;
        let name = name_of(upload);
        let id = store.running(&name).await?;
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

    async fn parts(&self, upload: &str) -> io::Result<Option<Vec<DirectPart>>> {
        let name = name_of(upload);
        let id = match self.bucket.running(&name).await {
            Ok(id) => id,
            Err(failure) => match self.bucket.head(&name).await? {
                Some(_) => return Ok(None),
                None => return Err(failure.into()),
            },
        };
        let parts = self.bucket.parts(&name, &id).await?;
        Ok(Some(parts.into_iter().map(|(part, _)| part).collect()))
    }

    async fn complete(&self, upload: &str) -> io::Result<u64> {
        let store = &self.bucket;
        let name = name_of(upload);
        let id = match store.running(&name).await {
            Ok(id) => id,
            // An earlier call completed it, and the rest of it failed.
            Err(failure) => match store.head(&name).await? {
                Some(head) => return Ok(head.size_bytes),
                None => return Err(failure.into()),
            },
        };
        let parts = store.parts(&name, &id).await?;
        let size_bytes = parts.iter().map(|(part, _)| part.size_bytes).sum();
        let parts = parts.into_iter().map(|(_, completed)| completed).collect();
        store.complete_multipart(&name, &id, parts, size_bytes).await?;
        Ok(size_bytes)
    }

    async fn open(&self, upload: &str) -> io::Result<BlobReader> {
        read::open(self.bucket.clone(), name_of(upload)).await
    }

    fn completed(&self, upload: &str, size_bytes: u64) -> Box<dyn StagedBlob> {
        Box::new(InStaging { store: self.bucket.clone(), name: name_of(upload), size_bytes })
    }
}
