use axum::Json;

use super::Webhook;
use crate::error::RegistryError;
use crate::http::{Caller, Page, PageQuery, Problems, QueryOf, Serving};

/// The tenant's webhooks, by id. Their secrets are not shown.
///
/// Scope: `tenant:manage`.
#[utoipa::path(
    get, path = "/webhooks", tag = "webhooks",
    params(PageQuery),
    responses((status = 200, description = "Webhooks", body = Page<Webhook>), Problems)
)]
pub(crate) async fn list_webhooks(
    Serving(registry): Serving,
    caller: Caller,
    QueryOf(page): QueryOf<PageQuery>,
) -> Result<Json<Page<Webhook>>, RegistryError> {
    let slice = page.slice()?;
    let limit = slice.limit;
    let rows = registry.list_webhooks(&caller.0, slice).await?;
    Ok(Json(Page::from_rows(rows, limit, |row| row.id.clone(), Webhook::from)))
}
