use axum::Json;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{AdapterVersion, VersionPath};
use crate::error::RegistryError;
use crate::http::{Body, Caller, PathOf, Problems, Serving};

/// Why a version is taken down.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TakeDown {
    /// 1 to 1,000 characters; whoever has the content sees them.
    reason: String,
}

/// Takes a version down: it is served to nobody, at once, and with it every version of the same weights, whoever's. The
/// content cannot be published again.
///
/// Scope: `admin`. It acts on any tenant's adapter, and on versions that were deleted.
#[utoipa::path(
    post, path = "/adapters/{owner}/{name}/versions/{version}/take-down", tag = "versions",
    params(VersionPath),
    request_body = TakeDown,
    responses((status = 200, body = AdapterVersion, description = "The version, which is served to nobody now"), Problems)
)]
pub(crate) async fn take_down_version(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<VersionPath>,
    Body(request): Body<TakeDown>,
) -> Result<Json<AdapterVersion>, RegistryError> {
    let VersionPath { owner, name, version } = path;
    let version = registry.take_down(&caller.0, &owner, &name, &version, request.reason).await?;
    Ok(Json(version.into()))
}
