use axum::Json;

use super::{Adapter, AdapterPath};
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};

/// One adapter.
///
/// Scope: `adapters:read`.
#[utoipa::path(
    get, path = "/adapters/{owner}/{name}", tag = "adapters",
    params(AdapterPath),
    responses((status = 200, body = Adapter, description = "The adapter"), Problems)
)]
pub(crate) async fn get_adapter(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<AdapterPath>,
) -> Result<Json<Adapter>, RegistryError> {
    let adapter = registry.get_adapter(&caller.0, &path.owner, &path.name).await?;
    Ok(Json(adapter.into()))
}
