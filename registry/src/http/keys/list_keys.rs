use axum::Json;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Key;
use crate::error::RegistryError;
use crate::http::page::{MAX_NAME_CHARS, check_length};
use crate::http::{Caller, Page, PageQuery, Problems, QueryOf, Serving};

/// Whose keys, and which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListKeys {
    /// A tenant's name; absent for the caller's own. Naming another takes the scope `admin`.
    tenant: Option<String>,
    /// Items per page, 1 to 100; 20 if absent.
    limit: Option<u64>,
    /// `next_cursor` of the page before; absent for the first page.
    cursor: Option<String>,
}

/// The tenant's keys, revoked ones included, by id. Secrets are not among what is kept. Admin keys are shown to admin
/// keys alone.
///
/// Scope: `keys:manage`; a person sees their own without it.
#[utoipa::path(
    get, path = "/keys", tag = "keys",
    params(ListKeys),
    responses((status = 200, body = Page<Key>, description = "A page of keys"), Problems)
)]
pub(crate) async fn list_keys(
    Serving(registry): Serving,
    caller: Caller,
    QueryOf(request): QueryOf<ListKeys>,
) -> Result<Json<Page<Key>>, RegistryError> {
    check_length("tenant", request.tenant.as_deref(), MAX_NAME_CHARS)?;
    let slice = PageQuery::new(request.limit, request.cursor).slice()?;
    let limit = slice.limit;
    let rows = registry.list_keys(&caller.0, request.tenant.as_deref(), slice).await?;
    Ok(Json(Page::from_rows(rows, limit, |row| row.id.clone(), Key::from)))
}
