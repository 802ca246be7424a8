use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Key;
use crate::Registry;
use crate::error::RegistryError;
use crate::http::{Caller, Page, PageQuery, Problems, QueryOf};

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
/// Scope: `keys:manage`.
#[utoipa::path(
    get, path = "/keys", tag = "keys",
    params(ListKeys),
    responses((status = 200, body = Page<Key>), Problems)
)]
pub(crate) async fn list_keys(
    State(registry): State<Registry>,
    caller: Caller,
    QueryOf(request): QueryOf<ListKeys>,
) -> Result<Json<Page<Key>>, RegistryError> {
    let slice = PageQuery::new(request.limit, request.cursor).slice()?;
    let limit = slice.limit;
    let rows = registry.list_keys(&caller.0, request.tenant.as_deref(), slice).await?;
    Ok(Json(Page::from_rows(rows, limit, |row| row.id.clone(), Key::from)))
}
