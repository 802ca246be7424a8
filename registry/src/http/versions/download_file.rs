use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use tokio_util::io::ReaderStream;
use utoipa::IntoParams;

use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problem, Problems, Serving};

/// Bytes read from the store at a time.
const READ_BYTES: usize = 128 * 1024;

/// Which file.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct FilePath {
    /// The tenant that owns the adapter.
    owner: String,
    /// The adapter's name.
    name: String,
    /// The version's number.
    version: String,
    /// The file's name, for example `adapter_config.json`.
    file: String,
}

/// A file of a version. Its `ETag` is its digest, so that `If-None-Match` answers 304 for what the caller has.
///
/// Scope: `adapters:read`. A version that was taken down answers 410. Stored bytes that are not those of the digest any more
/// answer 500 `object_corrupted`.
#[utoipa::path(
    get, path = "/adapters/{owner}/{name}/versions/{version}/files/{file}", tag = "versions",
    params(FilePath),
    responses(
        (status = 200, content_type = "application/octet-stream", description = "The bytes"),
        (status = 304, description = "The caller has them"),
        (status = 410, body = Problem, content_type = "application/problem+json",
         description = "The version was taken down"),
        Problems
    )
)]
pub(crate) async fn download_file(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<FilePath>,
    headers: HeaderMap,
) -> Result<Response, RegistryError> {
    let FilePath { owner, name, version, file } = path;
    let file = registry.version_file(&caller.0, &owner, &name, &version, &file).await?;
    let etag = format!("\"{}\"", file.digest);
    if headers.get(IF_NONE_MATCH).is_some_and(|given| matches_etag(given, &etag)) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, etag)]).into_response());
    }
    let bytes = ReaderStream::with_capacity(registry.open_file(&file).await?, READ_BYTES);
    let headers = [
        (CONTENT_TYPE, content_type(&file.name).to_owned()),
        (CONTENT_LENGTH, file.size_bytes.to_string()),
        (ETAG, etag),
        // The bytes never change, but the right to see them does: caches ask again.
        (CACHE_CONTROL, "private, no-cache".to_owned()),
        // A model card is a stranger's text; a browser must not take it for a page.
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    Ok((headers, Body::from_stream(bytes)).into_response())
}

fn matches_etag(given: &HeaderValue, etag: &str) -> bool {
    let given = given.to_str().unwrap_or_default();
    given.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == etag)
}

fn content_type(file: &str) -> &'static str {
    match file.rsplit('.').next() {
        Some("json") => "application/json",
        Some("md") => "text/markdown; charset=utf-8",
        // A stranger's program, shown and never run.
        Some("jinja") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
