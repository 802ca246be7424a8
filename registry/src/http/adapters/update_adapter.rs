use axum::Json;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Adapter, AdapterPath};
use crate::error::RegistryError;
use crate::http::{Body, Caller, PathOf, Problems, Serving};
use crate::words::Visibility;

/// What is to change; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateAdapter {
    /// Who may see and call it. Making it private stops other tenants at once.
    visibility: Option<Visibility>,
    /// What it is for, in up to 4,000 characters.
    description: Option<String>,
}

/// Changes an adapter's visibility or description.
///
/// Scope: `adapters:write`.
#[utoipa::path(
    patch, path = "/adapters/{owner}/{name}", tag = "adapters",
    params(AdapterPath),
    request_body = UpdateAdapter,
    responses((status = 200, body = Adapter, description = "The adapter as it is now"), Problems)
)]
pub(crate) async fn update_adapter(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<AdapterPath>,
    Body(request): Body<UpdateAdapter>,
) -> Result<Json<Adapter>, RegistryError> {
    let UpdateAdapter { visibility, description } = request;
    let adapter = registry.update_adapter(&caller.0, &path.owner, &path.name, visibility, description).await?;
    Ok(Json(adapter.into()))
}
