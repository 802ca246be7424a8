//! Multipart uploads: requests about their beginning, their parts and their end.

use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::bucket::Bucket;
use super::client;
use super::failure::{S3Failure, Trouble};
use crate::objects::DirectPart;
use crate::objects::settings::MAX_PARTS;

impl Bucket {
    /// Begins a multipart upload; answers its id.
    pub(super) async fn begin_multipart(&self, name: &str) -> Result<String, S3Failure> {
        let request = self.client.create_multipart_upload().bucket(&self.address.bucket).key(self.key(name));
        let begun = request.checksum_algorithm(ChecksumAlgorithm::Sha256).send().await;
        let begun = begun.map_err(|error| self.failed("begin the upload of", name, &error))?;
        begun.upload_id.ok_or_else(|| self.failure("begin the upload of", name, Trouble::NotS3, "no upload id"))
    }

    /// Makes an object of the parts of a multipart upload.
    pub(super) async fn complete_multipart(
        &self,
        name: &str,
        id: &str,
        parts: Vec<CompletedPart>,
        size_bytes: u64,
    ) -> Result<(), S3Failure> {
        let request = self.client.complete_multipart_upload().bucket(&self.address.bucket).key(self.key(name));
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = request.upload_id(id).multipart_upload(parts);
        let done = request.customize().config_override(client::patient(&self.settings)).send().await;
        match done.map_err(|error| self.failed("complete the upload of", name, &error)) {
            Ok(_) => Ok(()),
            // A first try did it, whose answer was lost.
            Err(failure) if *failure.trouble() == Trouble::NoSuchUpload => {
                let is_there = self.head(name).await?.is_some_and(|head| head.size_bytes == size_bytes);
                if is_there { Ok(()) } else { Err(failure) }
            }
            Err(failure) => Err(failure),
        }
    }

    /// The multipart uploads whose names begin with `start`: name and id of each.
    pub(super) async fn multiparts(&self, start: &str) -> Result<Vec<(String, String)>, S3Failure> {
        let mut found = Vec::new();
        let (mut key, mut id) = (None, None);
        loop {
            let request = self.client.list_multipart_uploads().bucket(&self.address.bucket).prefix(self.key(start));
            let page = request.set_key_marker(key.take()).set_upload_id_marker(id.take()).send().await;
            let page = page.map_err(|error| self.failed("list the multipart uploads of", start, &error))?;
            for upload in page.uploads() {
                let name = upload.key().and_then(|key| key.strip_prefix(&self.prefix));
                if let (Some(name), Some(id)) = (name, upload.upload_id()) {
                    found.push((name.to_owned(), id.to_owned()));
                }
            }
            (key, id) = (page.next_key_marker, page.next_upload_id_marker);
            if page.is_truncated != Some(true) || key.is_none() {
                return Ok(found);
            }
        }
    }

    /// Ends a multipart upload; no error if it has ended. Answers whether it was still there.
    pub(super) async fn abort(&self, name: &str, id: &str) -> Result<bool, S3Failure> {
        let request = self.client.abort_multipart_upload().bucket(&self.address.bucket).key(self.key(name));
        match request.upload_id(id).send().await {
            Ok(_) => Ok(true),
            Err(error) => match self.failed("end the upload of", name, &error) {
                failure if *failure.trouble() == Trouble::NoSuchUpload => Ok(false),
                failure => Err(failure),
            },
        }
    }

    /// The id of the multipart upload of this name.
    pub(super) async fn running(&self, name: &str) -> Result<String, S3Failure> {
        let found = self.multiparts(name).await?.into_iter().find(|(of, _)| of == name);
        found.map(|(_, id)| id).ok_or_else(|| self.failure("go on with", name, Trouble::NoSuchUpload, ""))
    }

    /// What has arrived of a multipart upload, in the order of its parts.
    pub(super) async fn parts(&self, name: &str, id: &str) -> Result<Vec<(DirectPart, CompletedPart)>, S3Failure> {
        let mut found = Vec::new();
        let mut from = None;
        loop {
            let request = self.client.list_parts().bucket(&self.address.bucket).key(self.key(name)).upload_id(id);
            let page = request.set_part_number_marker(from.take()).send().await;
            let page = page.map_err(|error| self.failed("list the parts of", name, &error))?;
            for part in page.parts() {
                let number = part.part_number().and_then(|number| u64::try_from(number).ok()).unwrap_or_default();
                let sum = part.checksum_sha256().and_then(|sum| BASE64_STANDARD.decode(sum).ok());
                let sha256 = sum.and_then(|sum| sum.try_into().ok());
                let (Some(sha256), 1..=MAX_PARTS) = (sha256, number) else {
                    let said = format!("part {number} has no checksum of SHA-256");
                    return Err(self.failure(
                        "list the parts of",
                        name,
                        Trouble::Unsupported("keep checksums of parts"),
                        said,
                    ));
                };
                let size_bytes = part.size().and_then(|size| size.try_into().ok()).unwrap_or_default();
                let completed = CompletedPart::builder()
                    .part_number(number as i32)
                    .set_checksum_sha256(part.checksum_sha256.clone())
                    .set_e_tag(part.e_tag.clone())
                    .build();
                found.push((DirectPart { number, size_bytes, sha256 }, completed));
            }
            from = page.next_part_number_marker;
            if page.is_truncated != Some(true) || from.is_none() {
                found.sort_by_key(|(part, _)| part.number);
                return Ok(found);
            }
        }
    }
}
