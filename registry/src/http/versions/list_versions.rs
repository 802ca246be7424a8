use axum::Json;

use super::AdapterVersion;
use crate::error::RegistryError;
use crate::http::adapters::AdapterPath;
use crate::http::{Caller, Page, PageQuery, PathOf, Problems, QueryOf, Serving};

/// An adapter's versions, highest number first.
///
/// Scope: `adapters:read`.
#[utoipa::path(
    get, path = "/adapters/{owner}/{name}/versions", tag = "versions",
    params(AdapterPath, PageQuery),
    responses((status = 200, body = Page<AdapterVersion>, description = "A page of versions"), Problems)
)]
pub(crate) async fn list_versions(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<AdapterPath>,
    QueryOf(page): QueryOf<PageQuery>,
) -> Result<Json<Page<AdapterVersion>>, RegistryError> {
    let slice = page.slice()?;
    let limit = slice.limit;
    let rows = registry.list_versions(&caller.0, &path.owner, &path.name, slice).await?;
    Ok(Json(Page::from_rows(rows, limit, |version| version.row.version.clone(), AdapterVersion::from)))
}
