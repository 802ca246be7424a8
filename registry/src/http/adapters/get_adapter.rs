use axum::Json;
use axum::extract::State;

use super::{Adapter, AdapterPath};
use crate::Registry;
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems};

/// One adapter.
///
/// Scope: `adapters:read`.
#[utoipa::path(
    get, path = "/adapters/{owner}/{name}", tag = "adapters",
    params(AdapterPath),
    responses((status = 200, body = Adapter), Problems)
)]
pub(crate) async fn get_adapter(
    State(registry): State<Registry>,
    caller: Caller,
    PathOf(path): PathOf<AdapterPath>,
) -> Result<Json<Adapter>, RegistryError> {
    let adapter = registry.get_adapter(&caller.0, &path.owner, &path.name).await?;
    Ok(Json(adapter.into()))
}
