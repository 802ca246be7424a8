use axum::http::StatusCode;

use super::AdapterPath;
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};

/// Deletes an adapter with its versions and tags. Its name can never be used again.
///
/// Scope: `adapters:write`.
#[utoipa::path(
    delete, path = "/adapters/{owner}/{name}", tag = "adapters",
    params(AdapterPath),
    responses((status = 204, description = "It is gone, and so are bytes that nothing else refers to"), Problems)
)]
pub(crate) async fn delete_adapter(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<AdapterPath>,
) -> Result<StatusCode, RegistryError> {
    registry.delete_adapter(&caller.0, &path.owner, &path.name).await?;
    Ok(StatusCode::NO_CONTENT)
}
