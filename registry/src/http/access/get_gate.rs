use axum::Json;

use super::Gate;
use crate::error::RegistryError;
use crate::http::adapters::AdapterPath;
use crate::http::{Caller, PathOf, Problems, Serving};

/// What a gated adapter asks of who asks for access; nothing where its owner has set nothing.
///
/// Scope: `adapters:read`.
#[utoipa::path(
    get, path = "/adapters/{owner}/{name}/gate", tag = "access",
    params(AdapterPath),
    responses((status = 200, description = "The questions", body = Gate), Problems)
)]
pub(crate) async fn get_gate(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<AdapterPath>,
) -> Result<Json<Gate>, RegistryError> {
    Ok(Json(registry.gate(&caller.0, &path.owner, &path.name).await?.into()))
}
