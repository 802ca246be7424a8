use axum::Json;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{HookVersion, HookVersionPath};
use crate::error::RegistryError;
use crate::http::{Body, Caller, PathOf, Problems, Serving};

/// Why a version of a hook is taken down.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TakeDownHook {
    /// 1 to 1,000 characters; whoever has the component sees them.
    reason: String,
}

/// Takes a version of a hook down: it runs for nobody, at once, and with it every version of the same component, whoever's. The
/// component cannot be published again.
///
/// Scope: `admin`. It acts on any tenant's hook, and on versions that were deleted.
#[utoipa::path(
    post, path = "/hooks/{owner}/{hook}/versions/{version}/take-down", tag = "hooks",
    params(HookVersionPath),
    request_body = TakeDownHook,
    responses((status = 200, body = HookVersion, description = "The version, which runs for nobody now"), Problems)
)]
pub(crate) async fn take_down_hook_version(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<HookVersionPath>,
    Body(request): Body<TakeDownHook>,
) -> Result<Json<HookVersion>, RegistryError> {
    let HookVersionPath { owner, hook, version } = path;
    let version = registry.take_hook_down(&caller.0, &owner, &hook, &version, request.reason).await?;
    Ok(Json(version.into()))
}
