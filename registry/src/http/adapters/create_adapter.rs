use axum::Json;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Adapter;
use crate::adapters::NewAdapter;
use crate::error::RegistryError;
use crate::http::{Body, Caller, IdempotencyKey, Problems, Serving};
use crate::idempotency::Once;
use crate::words::Visibility;

/// An adapter to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateAdapter {
    /// 1 to 64 of a-z, 0-9, `-`, `_`, `.`, beginning with a letter or digit. It cannot be changed, nor used again
    /// after the adapter is deleted.
    name: String,
    /// The tenant that should own it: the caller's own, which is also meant if absent. A client that knows the full
    /// name sends it, so that a key of the wrong tenant is refused rather than makes another adapter.
    owner: Option<String>,
    /// Who may see and call it; `private` if absent.
    #[serde(default)]
    visibility: Visibility,
    /// What it is for, in up to 4,000 characters.
    #[serde(default)]
    description: String,
}

/// Makes an adapter without versions, owned by the caller's tenant.
///
/// Scope: `adapters:write`. A name in use answers 409 `already_exists`, one of a deleted adapter 409 `retired`.
#[utoipa::path(
    post, path = "/adapters", tag = "adapters",
    params(IdempotencyKey),
    request_body = CreateAdapter,
    responses((status = 201, body = Adapter, description = "The adapter"), Problems)
)]
pub(crate) async fn create_adapter(
    Serving(registry): Serving,
    caller: Caller,
    once: Once,
    Body(request): Body<CreateAdapter>,
) -> Result<(StatusCode, Json<Adapter>), RegistryError> {
    let CreateAdapter { name, owner, visibility, description } = request;
    let new = NewAdapter { name, owner, visibility, description };
    let adapter = registry.create_adapter(&caller.0, new, &once, Adapter::from).await?;
    Ok((StatusCode::CREATED, Json(adapter.into())))
}
