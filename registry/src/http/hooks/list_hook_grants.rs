use axum::Json;

use super::{HookGrant, HookPath};
use crate::error::RegistryError;
use crate::hooks::HookGrantDetails;
use crate::http::{Caller, Page, PageQuery, PathOf, Problems, QueryOf, Serving};

/// The tenants that a hook was granted to, by the tenants' ids.
///
/// Scope: `access:decide`.
#[utoipa::path(
    get, path = "/hooks/{owner}/{hook}/grants", tag = "hooks",
    params(HookPath, PageQuery),
    responses((status = 200, description = "The grants", body = Page<HookGrant>), Problems)
)]
pub(crate) async fn list_hook_grants(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<HookPath>,
    QueryOf(page): QueryOf<PageQuery>,
) -> Result<Json<Page<HookGrant>>, RegistryError> {
    let slice = page.slice()?;
    let limit = slice.limit;
    let rows = registry.list_hook_grants(&caller.0, &path.owner, &path.hook, slice).await?;
    let sort_key = |grant: &HookGrantDetails| grant.row.tenant_id.clone();
    Ok(Json(Page::from_rows(rows, limit, sort_key, HookGrant::from)))
}
