//! Hooks: what components were compiled to, and what gateways tell of them.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use souk_protocol::Digest;
use souk_protocol::internal::{MAX_HOOK_LINES, WriteHookLines};

use crate::Registry;
use crate::error::RegistryError;
use crate::http::Body;

/// The component of a hook.
pub(super) async fn component(
    State(registry): State<Registry>,
    Path(digest): Path<String>,
) -> Result<Response, RegistryError> {
    answer(registry.hook_component(&read(&digest)?).await?, &digest)
}

/// What it was compiled to for an engine.
pub(super) async fn artifact(
    State(registry): State<Registry>,
    Path((digest, engine)): Path<(String, String)>,
) -> Result<Response, RegistryError> {
    answer(registry.hook_artifact(&read(&digest)?, &engine).await?, &digest)
}

/// Keeps what hooks said.
pub(super) async fn write_lines(
    State(registry): State<Registry>,
    Body(asked): Body<WriteHookLines>,
) -> Result<Json<()>, RegistryError> {
    let given = asked.lines.len();
    if given > MAX_HOOK_LINES {
        let detail = format!("`lines` has at most {MAX_HOOK_LINES} items, given {given}");
        return Err(RegistryError::bad_request("invalid_body", detail));
    }
    registry.write_hook_lines(&asked.lines).await?;
    Ok(Json(()))
}

fn read(digest: &str) -> Result<Digest, RegistryError> {
    digest.parse().map_err(|_| not_found(digest))
}

fn answer(bytes: Option<Bytes>, digest: &str) -> Result<Response, RegistryError> {
    let bytes = bytes.ok_or_else(|| not_found(digest))?;
    let headers = [(CONTENT_TYPE, "application/octet-stream"), (CACHE_CONTROL, "private, immutable")];
    Ok((StatusCode::OK, headers, bytes).into_response())
}

fn not_found(digest: &str) -> RegistryError {
    RegistryError::NotFound { what: "hook", name: digest.chars().take(80).collect() }
}
