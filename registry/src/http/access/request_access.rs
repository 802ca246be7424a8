use std::collections::BTreeMap;

use axum::Json;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::AccessRequest;
use crate::error::RegistryError;
use crate::http::adapters::AdapterPath;
use crate::http::{Body, Caller, IdempotencyKey, PathOf, Problems, Serving};
use crate::idempotency::Once;

/// A request for access.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestAccess {
    /// Answers to the owner's questions, by the questions' names: a text, or true or false.
    #[serde(default)]
    #[schema(example = json!({ "purpose": "To sort support tickets.", "terms": true }))]
    answers: BTreeMap<String, Value>,
}

/// Asks the owner of a gated adapter for access, in the name of the caller's tenant.
///
/// Scope: `adapters:read`. Who has access hears 409 `already_granted`, who has asked and not been answered 409
/// `already_exists`.
#[utoipa::path(
    post, path = "/adapters/{owner}/{name}/access-requests", tag = "access",
    params(AdapterPath, IdempotencyKey),
    request_body = RequestAccess,
    responses((status = 201, description = "The request", body = AccessRequest), Problems)
)]
pub(crate) async fn request_access(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<AdapterPath>,
    once: Once,
    Body(request): Body<RequestAccess>,
) -> Result<(StatusCode, Json<AccessRequest>), RegistryError> {
    let (owner, name) = (&path.owner, &path.name);
    let made = registry.request_access(&caller.0, owner, name, request.answers, &once, AccessRequest::from).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}
