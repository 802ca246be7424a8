//! `s3s-fs` as strict as S3: checksums of parts are checked and kept, multipart uploads that have ended are not found,
//! they can be listed, and lists come in pages.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use sha2::{Digest as _, Sha256};

/// The multipart uploads that run, and how requests are to be taken.
#[derive(Default)]
pub(crate) struct Uploads {
    running: Mutex<BTreeMap<(ObjectKey, MultipartUploadId), Parts>>,
    page: AtomicUsize,
    ignores_conditions: AtomicBool,
    /// Held while an object is copied: S3 replaces one whole, and the folder below writes into it.
    copying: tokio::sync::Mutex<()>,
}

type Parts = BTreeMap<i32, Part>;

impl Uploads {
    pub(crate) fn page_by(&self, entries: usize) {
        self.page.store(entries, Ordering::SeqCst);
    }

    pub(crate) fn ignore_conditions(&self) {
        self.ignores_conditions.store(true, Ordering::SeqCst);
    }

    pub(crate) fn len(&self) -> usize {
        self.running.lock().unwrap().len()
    }

    fn page(&self) -> usize {
        match self.page.load(Ordering::SeqCst) {
            0 => 1000,
            page => page,
        }
    }

    fn with<T>(&self, key: &str, id: &str, act: impl FnOnce(&mut Parts) -> T) -> S3Result<T> {
        let mut running = self.running.lock().unwrap();
        running.get_mut(&(key.to_owned(), id.to_owned())).map(act).ok_or_else(|| s3_error!(NoSuchUpload))
    }

    fn end(&self, key: &str, id: &str) {
        self.running.lock().unwrap().remove(&(key.to_owned(), id.to_owned()));
    }
}

pub(crate) struct Strict {
    inner: FileSystem,
    uploads: std::sync::Arc<Uploads>,
}

impl Strict {
    pub(crate) fn new(inner: FileSystem, uploads: std::sync::Arc<Uploads>) -> Self {
        Self { inner, uploads }
    }
}

#[async_trait]
impl S3 for Strict {
    async fn put_object(&self, mut request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        if self.uploads.ignores_conditions.load(Ordering::SeqCst) {
            request.input.if_none_match = None;
        }
        let bytes = gather(request.input.body.take()).await?;
        compare(&bytes, request.input.checksum_sha256.as_deref())?;
        request.input.body = Some(body(bytes));
        self.inner.put_object(request).await
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.inner.get_object(request).await
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        self.inner.head_object(request).await
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.inner.delete_object(request).await
    }

    async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let get = request.clone().map_input(|copy| GetObjectInput {
            bucket: copy.bucket,
            key: copy.key,
            ..GetObjectInput::default()
        });
        let _whole = self.uploads.copying.lock().await;
        let mut answer = self.inner.copy_object(request).await?;
        let object = self.inner.get_object(get).await?;
        let bytes = gather(object.output.body).await?;
        if let Some(result) = &mut answer.output.copy_object_result {
            result.checksum_sha256 = Some(sum(&bytes));
        }
        Ok(answer)
    }

    async fn list_objects_v2(
        &self,
        mut request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let page = i32::try_from(self.uploads.page()).unwrap_or(i32::MAX);
        request.input.max_keys = Some(request.input.max_keys.map_or(page, |given| given.min(page)));
        self.inner.list_objects_v2(request).await
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let key = request.input.key.clone();
        let answer = self.inner.create_multipart_upload(request).await?;
        let id = answer.output.upload_id.clone().unwrap_or_default();
        self.uploads.running.lock().unwrap().insert((key, id), Parts::new());
        Ok(answer)
    }

    async fn upload_part(&self, mut request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let (key, id) = (request.input.key.clone(), request.input.upload_id.clone());
        self.uploads.with(&key, &id, |_| ())?;
        let number = request.input.part_number;
        let bytes = gather(request.input.body.take()).await?;
        if request.input.checksum_sha256.is_none() {
            return Err(s3_error!(InvalidRequest, "the upload has checksums of SHA-256, and this part has none"));
        }
        compare(&bytes, request.input.checksum_sha256.as_deref())?;
        let size = i64::try_from(bytes.len()).ok();
        request.input.body = Some(body(bytes.clone()));
        let mut answer = self.inner.upload_part(request).await?;
        let checksum_sha256 = Some(sum(&bytes));
        let part = Part {
            checksum_sha256: checksum_sha256.clone(),
            e_tag: answer.output.e_tag.clone(),
            part_number: Some(number),
            size,
            ..Part::default()
        };
        self.uploads.with(&key, &id, |parts| parts.insert(number, part))?;
        answer.output.checksum_sha256 = checksum_sha256;
        Ok(answer)
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let input = request.input;
        let after = input.part_number_marker.unwrap_or(0);
        let page = self.uploads.page();
        let parts: Vec<Part> = self.uploads.with(&input.key, &input.upload_id, |parts| {
            parts.range(after + 1..).map(|(_, part)| part.clone()).take(page + 1).collect()
        })?;
        let is_truncated = parts.len() > page;
        let parts: Vec<Part> = parts.into_iter().take(page).collect();
        let next_part_number_marker = parts.last().and_then(|part| part.part_number).filter(|_| is_truncated);
        Ok(S3Response::new(ListPartsOutput {
            is_truncated: Some(is_truncated),
            next_part_number_marker,
            parts: Some(parts),
            upload_id: Some(input.upload_id),
            ..ListPartsOutput::default()
        }))
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        let (start, page) = (input.prefix.unwrap_or_default(), self.uploads.page());
        let after = (input.key_marker.unwrap_or_default(), input.upload_id_marker.unwrap_or_default());
        let running = self.uploads.running.lock().unwrap();
        let names = running.keys().filter(|name| **name > after && name.0.starts_with(&start));
        let names: Vec<_> = names.take(page + 1).cloned().collect();
        let is_truncated = names.len() > page;
        let names = &names[..names.len().min(page)];
        let last = names.last().filter(|_| is_truncated);
        let upload = |(key, id): &(String, String)| MultipartUpload {
            key: Some(key.clone()),
            upload_id: Some(id.clone()),
            ..MultipartUpload::default()
        };
        Ok(S3Response::new(ListMultipartUploadsOutput {
            is_truncated: Some(is_truncated),
            next_key_marker: last.map(|(key, _)| key.clone()),
            next_upload_id_marker: last.map(|(_, id)| id.clone()),
            uploads: Some(names.iter().map(upload).collect()),
            ..ListMultipartUploadsOutput::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let (key, id) = (request.input.key.clone(), request.input.upload_id.clone());
        let named = request.input.multipart_upload.as_ref().and_then(|upload| upload.parts.clone()).unwrap_or_default();
        let is_right = self.uploads.with(&key, &id, |parts| {
            named.iter().all(|part| {
                let kept = part.part_number.and_then(|number| parts.get(&number));
                kept.is_some_and(|kept| kept.checksum_sha256 == part.checksum_sha256 && kept.e_tag == part.e_tag)
            })
        })?;
        if !is_right {
            return Err(s3_error!(InvalidPart, "a part is not there, or has another checksum"));
        }
        let answer = self.inner.complete_multipart_upload(request).await?;
        self.uploads.end(&key, &id);
        Ok(answer)
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let (key, id) = (request.input.key.clone(), request.input.upload_id.clone());
        self.uploads.with(&key, &id, |_| ())?;
        let answer = self.inner.abort_multipart_upload(request).await?;
        self.uploads.end(&key, &id);
        Ok(answer)
    }
}

async fn gather(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(mut body) = body else { return Ok(Bytes::new()) };
    let mut bytes = BytesMut::new();
    while let Some(chunk) = body.next().await {
        bytes.extend_from_slice(&chunk.map_err(|_| s3_error!(IncompleteBody))?);
    }
    Ok(bytes.freeze())
}

fn body(bytes: Bytes) -> StreamingBlob {
    StreamingBlob::from(s3s::Body::from(bytes))
}

fn sum(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(Sha256::digest(bytes))
}

fn compare(bytes: &[u8], expected: Option<&str>) -> S3Result<()> {
    match expected {
        Some(expected) if expected != sum(bytes) => Err(s3_error!(BadDigest, "the SHA-256 does not match")),
        _ => Ok(()),
    }
}
