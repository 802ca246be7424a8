use axum::Json;

use super::Pipeline;
use crate::error::RegistryError;
use crate::hooks::PipelineDetails;
use crate::http::{Caller, Page, PageQuery, Problems, QueryOf, Serving};

/// The pipelines of the tenant, with those of its adapters' versions.
///
/// Scope: `tenant:manage`.
#[utoipa::path(
    get, path = "/pipelines", tag = "pipelines",
    params(PageQuery),
    responses((status = 200, description = "A page of pipelines", body = Page<Pipeline>), Problems)
)]
pub(crate) async fn list_pipelines(
    Serving(registry): Serving,
    caller: Caller,
    QueryOf(page): QueryOf<PageQuery>,
) -> Result<Json<Page<Pipeline>>, RegistryError> {
    let slice = page.slice()?;
    let limit = slice.limit;
    let rows = registry.list_pipelines(&caller.0, slice).await?;
    let sort_key = |(column, _): &(String, PipelineDetails)| column.clone();
    Ok(Json(Page::from_rows(rows, limit, sort_key, |(_, details)| Pipeline::from(details))))
}
