use axum::Json;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Hook, HookPath};
use crate::error::RegistryError;
use crate::http::{Body, Caller, PathOf, Problems, Serving};
use crate::words::Visibility;

/// What is to change; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateHook {
    /// Who may see and attach it: `private`, `shared` or `public`. What tenants have attached that may not any more fails from
    /// their next request on.
    visibility: Option<Visibility>,
    /// What it is for, in up to 4,000 characters.
    description: Option<String>,
}

/// Changes a hook's visibility or description.
///
/// Scope: `adapters:write`.
#[utoipa::path(
    patch, path = "/hooks/{owner}/{hook}", tag = "hooks",
    params(HookPath),
    request_body = UpdateHook,
    responses((status = 200, body = Hook, description = "The hook as it is now"), Problems)
)]
pub(crate) async fn update_hook(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<HookPath>,
    Body(request): Body<UpdateHook>,
) -> Result<Json<Hook>, RegistryError> {
    let UpdateHook { visibility, description } = request;
    let hook = registry.update_hook(&caller.0, &path.owner, &path.hook, visibility, description).await?;
    Ok(Json(hook.into()))
}
