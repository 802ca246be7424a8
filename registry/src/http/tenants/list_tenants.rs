use axum::Json;
use axum::extract::State;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _};
use souk_protocol::Scope;

use super::Tenant;
use crate::Registry;
use crate::db::entities::tenant;
use crate::error::RegistryError;
use crate::http::{Caller, Page, PageQuery, Problems, QueryOf};

/// All tenants, by name.
///
/// Scope: `admin`.
#[utoipa::path(
    get, path = "/tenants", tag = "tenants",
    params(PageQuery),
    responses((status = 200, body = Page<Tenant>), Problems)
)]
pub(crate) async fn list_tenants(
    State(registry): State<Registry>,
    caller: Caller,
    QueryOf(page): QueryOf<PageQuery>,
) -> Result<Json<Page<Tenant>>, RegistryError> {
    caller.require(Scope::Admin)?;
    let limit = page.limit()?;
    let mut query = tenant::Entity::find().order_by_asc(tenant::Column::Name).limit(limit + 1);
    if let Some(name) = page.after()? {
        query = query.filter(tenant::Column::Name.gt(name));
    }
    let rows = query.all(&registry.db).await?;
    Ok(Json(Page::from_rows(rows, limit, |row| row.name.clone(), Tenant::from)))
}
