use axum::Json;

use super::Service;
use crate::error::RegistryError;
use crate::http::{Caller, Page, PageQuery, Problems, QueryOf, Serving};

/// The keys of services, revoked ones included, by id. Secrets are not among what is kept.
///
/// Scope: `admin`.
#[utoipa::path(
    get, path = "/services", tag = "services",
    params(PageQuery),
    responses((status = 200, description = "A page of them", body = Page<Service>), Problems)
)]
pub(crate) async fn list_services(
    Serving(registry): Serving,
    caller: Caller,
    QueryOf(page): QueryOf<PageQuery>,
) -> Result<Json<Page<Service>>, RegistryError> {
    let slice = page.slice()?;
    let limit = slice.limit;
    let rows = registry.list_services(&caller.0, slice).await?;
    Ok(Json(Page::from_rows(rows, limit, |row| row.id.clone(), Service::from)))
}
