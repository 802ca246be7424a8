use axum::Json;
use serde::Deserialize;
use utoipa::IntoParams;

use super::SubjectLimits;
use crate::error::RegistryError;
use crate::http::page::{MAX_NAME_CHARS, check_length};
use crate::http::{Caller, Page, PageQuery, Problems, QueryOf, Serving};
use crate::limits;

/// Whose limits, and which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListLimits {
    /// A tenant's name; absent for the caller's own. Naming another takes the scope `admin`.
    tenant: Option<String>,
    /// Items per page, 1 to 100; 20 if absent.
    limit: Option<u64>,
    /// `next_cursor` of the page before; absent for the first page.
    cursor: Option<String>,
}

/// The tenant's limits, then those of its teams, members and keys that have any, each by id.
///
/// Scope: `tenant:manage`. Who is of a team is in the lists of members and keys.
#[utoipa::path(
    get, path = "/limits", tag = "limits",
    params(ListLimits),
    responses((status = 200, description = "A page of them, broadest level first", body = Page<SubjectLimits>), Problems)
)]
pub(crate) async fn list_limits(
    Serving(registry): Serving,
    caller: Caller,
    QueryOf(request): QueryOf<ListLimits>,
) -> Result<Json<Page<SubjectLimits>>, RegistryError> {
    check_length("tenant", request.tenant.as_deref(), MAX_NAME_CHARS)?;
    let slice = PageQuery::new(request.limit, request.cursor).slice()?;
    let limit = slice.limit;
    let rows = registry.list_limits(&caller.0, request.tenant.as_deref(), slice).await?;
    Ok(Json(Page::from_rows(rows, limit, limits::SubjectLimits::sort_key, SubjectLimits::from)))
}
