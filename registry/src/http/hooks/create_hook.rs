use axum::Json;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Hook;
use crate::error::RegistryError;
use crate::hooks::NewHook;
use crate::http::{Body, Caller, IdempotencyKey, Problems, Serving};
use crate::idempotency::Once;
use crate::words::Visibility;

/// A hook to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateHook {
    /// 1 to 64 of a-z, 0-9, `-`, `_`, `.`, beginning with a letter or digit. It cannot be changed, nor used again after the hook
    /// is deleted.
    name: String,
    /// The tenant that should own it: the caller's own, which is also meant if absent.
    owner: Option<String>,
    /// Who may see and attach it: `private`, which is also meant if absent, `shared` or `public`.
    #[serde(default)]
    visibility: Visibility,
    /// What it is for, in up to 4,000 characters.
    #[serde(default)]
    description: String,
}

/// Makes a hook without versions, owned by the caller's tenant.
///
/// Scope: `adapters:write`. A name in use answers 409 `already_exists`, one of a deleted hook 409 `retired`.
#[utoipa::path(
    post, path = "/hooks", tag = "hooks",
    params(IdempotencyKey),
    request_body = CreateHook,
    responses((status = 201, body = Hook, description = "The hook"), Problems)
)]
pub(crate) async fn create_hook(
    Serving(registry): Serving,
    caller: Caller,
    once: Once,
    Body(request): Body<CreateHook>,
) -> Result<(StatusCode, Json<Hook>), RegistryError> {
    let CreateHook { name, owner, visibility, description } = request;
    let new = NewHook { name, owner, visibility, description };
    let hook = registry.create_hook(&caller.0, new, &once, Hook::from).await?;
    Ok((StatusCode::CREATED, Json(hook.into())))
}
