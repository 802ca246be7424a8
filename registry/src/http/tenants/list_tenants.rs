use axum::Json;

use super::Tenant;
use crate::error::RegistryError;
use crate::http::{Caller, Page, PageQuery, Problems, QueryOf, Serving};

/// All tenants, by name.
///
/// Scope: `admin`.
#[utoipa::path(
    get, path = "/tenants", tag = "tenants",
    params(PageQuery),
    responses((status = 200, body = Page<Tenant>, description = "A page of tenants"), Problems)
)]
pub(crate) async fn list_tenants(
    Serving(registry): Serving,
    caller: Caller,
    QueryOf(page): QueryOf<PageQuery>,
) -> Result<Json<Page<Tenant>>, RegistryError> {
    let slice = page.slice()?;
    let limit = slice.limit;
    let rows = registry.list_tenants(&caller.0, slice).await?;
    Ok(Json(Page::from_rows(rows, limit, |row| row.name.clone(), Tenant::from)))
}
