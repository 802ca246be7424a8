use axum::Json;
use serde::Deserialize;
use utoipa::IntoParams;

use super::AccessRequest;
use crate::error::RegistryError;
use crate::http::{Caller, Page, PageQuery, Problems, QueryOf, Serving};
use crate::words::RequestState;

/// Which of the requests, and which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListAccessRequests {
    /// Only those in this state.
    #[param(inline)]
    state: Option<RequestState>,
    /// Items per page, 1 to 100; 20 if absent.
    limit: Option<u64>,
    /// `next_cursor` of the page before; absent for the first page.
    cursor: Option<String>,
}

/// The requests for access that the tenant made, newest first.
///
/// Scope: `adapters:read`.
#[utoipa::path(
    get, path = "/access-requests", tag = "access",
    params(ListAccessRequests),
    responses((status = 200, description = "The requests", body = Page<AccessRequest>), Problems)
)]
pub(crate) async fn list_access_requests(
    Serving(registry): Serving,
    caller: Caller,
    QueryOf(query): QueryOf<ListAccessRequests>,
) -> Result<Json<Page<AccessRequest>>, RegistryError> {
    let slice = PageQuery::new(query.limit, query.cursor).slice()?;
    let limit = slice.limit;
    let rows = registry.asked_requests(&caller.0, query.state, slice).await?;
    Ok(Json(Page::from_rows(rows, limit, |request| request.row.id.clone(), AccessRequest::from)))
}
