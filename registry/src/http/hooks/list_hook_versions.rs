use axum::Json;

use super::{HookPath, HookVersion};
use crate::error::RegistryError;
use crate::hooks::HookVersionDetails;
use crate::http::{Caller, Page, PageQuery, PathOf, Problems, QueryOf, Serving};

/// The versions of a hook, highest number first.
///
/// Scope: `adapters:read`.
#[utoipa::path(
    get, path = "/hooks/{owner}/{hook}/versions", tag = "hooks",
    params(HookPath, PageQuery),
    responses((status = 200, body = Page<HookVersion>, description = "A page of versions"), Problems)
)]
pub(crate) async fn list_hook_versions(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<HookPath>,
    QueryOf(page): QueryOf<PageQuery>,
) -> Result<Json<Page<HookVersion>>, RegistryError> {
    let slice = page.slice()?;
    let limit = slice.limit;
    let rows = registry.list_hook_versions(&caller.0, &path.owner, &path.hook, slice).await?;
    let sort_key = |version: &HookVersionDetails| version.row.version.clone();
    Ok(Json(Page::from_rows(rows, limit, sort_key, HookVersion::from)))
}
