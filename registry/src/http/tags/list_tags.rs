use axum::Json;

use super::Tag;
use crate::error::RegistryError;
use crate::http::adapters::AdapterPath;
use crate::http::{Caller, Page, PageQuery, PathOf, Problems, QueryOf, Serving};

/// An adapter's tags, by name.
///
/// Scope: `adapters:read`.
#[utoipa::path(
    get, path = "/adapters/{owner}/{name}/tags", tag = "tags",
    params(AdapterPath, PageQuery),
    responses((status = 200, body = Page<Tag>, description = "A page of tags"), Problems)
)]
pub(crate) async fn list_tags(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<AdapterPath>,
    QueryOf(page): QueryOf<PageQuery>,
) -> Result<Json<Page<Tag>>, RegistryError> {
    let slice = page.slice()?;
    let limit = slice.limit;
    let rows = registry.list_tags(&caller.0, &path.owner, &path.name, slice).await?;
    Ok(Json(Page::from_rows(rows, limit, |tag| tag.row.tag.clone(), Tag::from)))
}
