use axum::Json;
use axum::extract::State;
use sea_orm::{ActiveModelTrait as _, IntoActiveModel as _, Set};
use serde::Deserialize;
use souk_protocol::Scope;
use utoipa::ToSchema;

use super::{Adapter, AdapterPath, check_description, shown};
use crate::Registry;
use crate::catalog::Visibility;
use crate::db::now_ms;
use crate::error::RegistryError;
use crate::http::{Body, Caller, PathOf, Problems};

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
    responses((status = 200, body = Adapter), Problems)
)]
pub(crate) async fn update_adapter(
    State(registry): State<Registry>,
    caller: Caller,
    PathOf(path): PathOf<AdapterPath>,
    Body(request): Body<UpdateAdapter>,
) -> Result<Json<Adapter>, RegistryError> {
    caller.require(Scope::AdaptersWrite)?;
    let row = registry.owned_adapter(&caller.0, &path.owner, &path.name).await?;
    let description = request.description.as_deref().and_then(check_description);
    RegistryError::unless_valid(description.into_iter().collect())?;
    let mut row = row.into_active_model();
    row.updated_at_ms = Set(now_ms());
    if let Some(visibility) = request.visibility {
        row.visibility = Set(visibility.as_str().to_owned());
    }
    if let Some(description) = request.description {
        row.description = Set(description);
    }
    let row = row.update(&registry.db).await?;
    Ok(Json(shown(&registry, row).await?))
}
