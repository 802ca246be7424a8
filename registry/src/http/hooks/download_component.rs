use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse as _, Response};
use tokio_util::io::ReaderStream;

use super::HookVersionPath;
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problem, Problems, Serving};

/// Bytes read from the store at a time.
const READ_BYTES: usize = 128 * 1024;

/// The component of a version of a hook. Its `ETag` is its digest.
///
/// Scope: `adapters:read`. A version that was taken down answers 410. Stored bytes that are not those of the digest any more
/// answer 500 `object_corrupted`.
#[utoipa::path(
    get, path = "/hooks/{owner}/{hook}/versions/{version}/component", tag = "hooks",
    params(HookVersionPath),
    responses(
        (status = 200, content_type = "application/octet-stream", description = "The bytes"),
        (status = 410, body = Problem, content_type = "application/problem+json",
         description = "The version was taken down"),
        Problems
    )
)]
pub(crate) async fn download_component(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<HookVersionPath>,
) -> Result<Response, RegistryError> {
    let HookVersionPath { owner, hook, version } = path;
    let (version, bytes) = registry.open_component(&caller.0, &owner, &hook, &version).await?;
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_LENGTH, version.size_bytes.to_string()),
        (ETAG, format!("\"{}\"", version.digest)),
        // The bytes never change, but the right to see them does: caches ask again.
        (CACHE_CONTROL, "private, no-cache".to_owned()),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    Ok((headers, Body::from_stream(ReaderStream::with_capacity(bytes, READ_BYTES))).into_response())
}
