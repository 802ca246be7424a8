use axum::Json;

use super::Grant;
use crate::error::RegistryError;
use crate::http::adapters::AdapterPath;
use crate::http::{Caller, Page, PageQuery, PathOf, Problems, QueryOf, Serving};

/// The tenants that an adapter was granted to, expired grants included, by the tenants' ids.
///
/// Scope: `access:decide`.
#[utoipa::path(
    get, path = "/adapters/{owner}/{name}/grants", tag = "access",
    params(AdapterPath, PageQuery),
    responses((status = 200, description = "The grants", body = Page<Grant>), Problems)
)]
pub(crate) async fn list_grants(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<AdapterPath>,
    QueryOf(page): QueryOf<PageQuery>,
) -> Result<Json<Page<Grant>>, RegistryError> {
    let slice = page.slice()?;
    let limit = slice.limit;
    let rows = registry.list_grants(&caller.0, &path.owner, &path.name, slice).await?;
    Ok(Json(Page::from_rows(rows, limit, |grant| grant.row.tenant_id.clone(), Grant::from)))
}
