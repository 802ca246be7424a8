//! Requests to a bucket, each with what is said when it fails.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use souk_protocol::Digest;
use souk_protocol::manifest::blob_path;

use super::client;
use super::failure::{Address, S3Failure, Trouble};
use crate::objects::settings::ObjectSettings;

/// A bucket, and what all names in it begin with.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) client: Client,
    pub(super) address: Address,
    /// What all names begin with; empty, or ending in `/`.
    pub(super) prefix: String,
    pub(super) settings: ObjectSettings,
}

/// What is known of an object without reading it.
pub(super) struct Head {
    pub(super) size_bytes: u64,
    /// SHA-256 of the whole, if the server keeps one.
    pub(super) sha256: Option<String>,
}

impl Bucket {
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub(super) fn failed<E>(&self, action: &str, name: &str, error: &SdkError<E, HttpResponse>) -> S3Failure
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        S3Failure::of(format!("{action} {}", self.key(name)), &self.address, error)
    }

    pub(super) fn failure(&self, action: &str, name: &str, trouble: Trouble, said: impl Into<String>) -> S3Failure {
        S3Failure::new(format!("{action} {}", self.key(name)), &self.address, trouble, said)
    }

    /// Puts a whole object. `if_absent`: only where there is none, else [`Trouble::AlreadyThere`].
    pub(super) async fn put(
        &self,
        name: &str,
        bytes: Bytes,
        sha256: &[u8; 32],
        if_absent: bool,
    ) -> Result<(), S3Failure> {
        let request = self.client.put_object().bucket(&self.address.bucket).key(self.key(name));
        let request = request.checksum_sha256(BASE64_STANDARD.encode(sha256)).body(ByteStream::from(bytes));
        let request = if if_absent { request.if_none_match("*") } else { request };
        request.send().await.map(|_| ()).map_err(|error| self.failed("write", name, &error))
    }

    /// `None` if there is none.
    pub(super) async fn head(&self, name: &str) -> Result<Option<Head>, S3Failure> {
        let request = self.client.head_object().bucket(&self.address.bucket).key(self.key(name));
        match request.checksum_mode(ChecksumMode::Enabled).send().await {
            Ok(head) => Ok(Some(Head {
                size_bytes: head.content_length().and_then(|length| length.try_into().ok()).unwrap_or_default(),
                // That of a multipart upload ends in `-` and the number of parts, and is of their checksums.
                sha256: head.checksum_sha256().filter(|sum| !sum.contains('-')).map(str::to_owned),
            })),
            Err(error) => match self.failed("look for", name, &error) {
                failure if *failure.trouble() == Trouble::NoSuchObject => Ok(None),
                failure => Err(failure),
            },
        }
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), S3Failure> {
        let request = self.client.delete_object().bucket(&self.address.bucket).key(self.key(name));
        request.send().await.map(|_| ()).map_err(|error| self.failed("delete", name, &error))
    }

    /// Has the server copy an object; with what it then has, if it says so.
    pub(super) async fn copy(&self, from: &str, to: &str) -> Result<Option<String>, S3Failure> {
        let request = self.client.copy_object().bucket(&self.address.bucket).key(self.key(to));
        // Names have no character that would have to be escaped.
        let request = request.copy_source(format!("{}/{}", self.address.bucket, self.key(from)));
        let request = request.checksum_algorithm(ChecksumAlgorithm::Sha256);
        let request = request.customize().config_override(client::patient(&self.settings));
        let copied = request.send().await.map_err(|error| self.failed("copy", from, &error))?;
        let sum = copied.copy_object_result.and_then(|result| result.checksum_sha256);
        Ok(sum.filter(|sum| !sum.contains('-')))
    }

    /// Whether what is under `digest` is what belongs there, as far as the server can tell.
    pub(super) async fn is_in_place(&self, digest: &Digest, size_bytes: u64) -> Result<bool, S3Failure> {
        let Some(head) = self.head(&blob_path(digest)).await? else { return Ok(false) };
        let is_right = head.size_bytes == size_bytes && head.sha256.is_none_or(|sum| sum == encoded(digest));
        if !is_right {
            let found = head.size_bytes;
            tracing::warn!(blob = %digest, "Replaces blob {digest}, which is damaged: it has {found} bytes of {size_bytes}, or others");
        }
        Ok(is_right)
    }

    /// Copies a complete object below `staging/` to its digest, unless it is there.
    pub(super) async fn place(&self, staged: &str, digest: &Digest, size_bytes: u64) -> Result<(), S3Failure> {
        if !self.is_in_place(digest, size_bytes).await? {
            let name = blob_path(digest);
            if let Some(sum) = self.copy(staged, &name).await?
                && sum != encoded(digest)
            {
                self.delete(&name).await?;
                let said = format!("expected {}, the server has {sum}", encoded(digest));
                return Err(self.failure("copy", staged, Trouble::WrongBytes, said));
            }
        }
        Ok(())
    }

    /// The objects whose names begin with `start`, a page at a time, with their lengths and ages.
    pub(super) async fn list(&self, start: &str) -> Result<Vec<Listed>, S3Failure> {
        let mut found = Vec::new();
        let mut from = None;
        loop {
            let request = self.client.list_objects_v2().bucket(&self.address.bucket).prefix(self.key(start));
            let page = request.set_continuation_token(from.take()).send().await;
            let page = page.map_err(|error| self.failed("list", start, &error))?;
            for object in page.contents() {
                let name = object.key().and_then(|key| key.strip_prefix(&self.prefix));
                let Some(name) = name else { continue };
                let changed = object.last_modified().and_then(|at| SystemTime::try_from(*at).ok());
                found.push(Listed {
                    name: name.to_owned(),
                    size_bytes: object.size().and_then(|size| size.try_into().ok()).unwrap_or_default(),
                    // A moment in the future, by clocks that differ, is no age at all.
                    age: changed.and_then(|at| at.elapsed().ok()).unwrap_or_default(),
                });
            }
            from = page.next_continuation_token;
            if from.is_none() {
                return Ok(found);
            }
        }
    }
}

/// An object of a list.
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) size_bytes: u64,
    pub(super) age: Duration,
}

/// A digest as S3 writes checksums.
pub(super) fn encoded(digest: &Digest) -> String {
    BASE64_STANDARD.encode(digest.as_bytes())
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    *Digest::of(bytes).as_bytes()
}
