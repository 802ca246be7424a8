use axum::Json;

use super::{Hook, HookPath};
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};

/// One hook.
///
/// Scope: `adapters:read`.
#[utoipa::path(
    get, path = "/hooks/{owner}/{hook}", tag = "hooks",
    params(HookPath),
    responses((status = 200, body = Hook, description = "The hook"), Problems)
)]
pub(crate) async fn get_hook(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<HookPath>,
) -> Result<Json<Hook>, RegistryError> {
    Ok(Json(registry.get_hook(&caller.0, &path.owner, &path.hook).await?.into()))
}
