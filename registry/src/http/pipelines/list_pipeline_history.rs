use axum::Json;

use super::{AdapterVersionPath, Pipeline, TargetPath};
use crate::Registry;
use crate::error::RegistryError;
use crate::hooks::{PipelineDetails, Target};
use crate::http::{Caller, Page, PageQuery, PathOf, Problems, QueryOf, Serving};
use crate::rights::Action;

/// The pipelines that a target had, the last first; the last 100 changes are kept.
///
/// Scope: `tenant:manage`.
#[utoipa::path(
    get, path = "/pipelines/{at}/{target}/history", tag = "pipelines",
    params(TargetPath, PageQuery),
    responses((status = 200, description = "A page of pipelines", body = Page<Pipeline>), Problems)
)]
pub(crate) async fn list_pipeline_history(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<TargetPath>,
    QueryOf(page): QueryOf<PageQuery>,
) -> Result<Json<Page<Pipeline>>, RegistryError> {
    history(&registry, &caller, Action::ListPipelineHistory, path.target(), &page).await
}

/// The pipelines that a version of an adapter had, the last first; the last 100 changes are kept.
///
/// Scope: `adapters:write`.
#[utoipa::path(
    get, path = "/adapters/{owner}/{name}/versions/{version}/pipeline/history", tag = "pipelines",
    params(AdapterVersionPath, PageQuery),
    responses((status = 200, description = "A page of pipelines", body = Page<Pipeline>), Problems)
)]
pub(crate) async fn list_version_pipeline_history(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<AdapterVersionPath>,
    QueryOf(page): QueryOf<PageQuery>,
) -> Result<Json<Page<Pipeline>>, RegistryError> {
    history(&registry, &caller, Action::ListVersionPipelineHistory, path.target(), &page).await
}

async fn history(
    registry: &Registry,
    caller: &Caller,
    action: Action,
    target: Target<'_>,
    page: &PageQuery,
) -> Result<Json<Page<Pipeline>>, RegistryError> {
    let slice = page.slice()?;
    let limit = slice.limit;
    let rows = registry.pipeline_history(&caller.0, action, target, slice).await?;
    let number = |details: &PipelineDetails| details.row.as_ref().map_or(0, |row| row.number).to_string();
    Ok(Json(Page::from_rows(rows, limit, number, Pipeline::from)))
}
