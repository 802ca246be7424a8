use axum::Json;
use serde::Deserialize;
use souk_protocol::AdapterName;
use utoipa::IntoParams;

use super::AccessRequest;
use crate::access::Received;
use crate::error::RegistryError;
use crate::http::page::{MAX_NAME_CHARS, check_length};
use crate::http::{Caller, Page, PageQuery, Problems, QueryOf, Serving};
use crate::words::RequestState;

/// Which of the requests, and which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListReceivedRequests {
    /// Only those in this state.
    #[param(inline)]
    state: Option<RequestState>,
    /// Only those for this adapter, `owner/name`.
    adapter: Option<String>,
    /// A tenant's name; absent for the caller's own. Naming another takes the scope `admin`.
    tenant: Option<String>,
    /// Items per page, 1 to 100; 20 if absent.
    limit: Option<u64>,
    /// `next_cursor` of the page before; absent for the first page.
    cursor: Option<String>,
}

/// The requests for access to the tenant's adapters, newest first.
///
/// Scope: `access:decide`.
#[utoipa::path(
    get, path = "/access-requests/received", tag = "access",
    params(ListReceivedRequests),
    responses((status = 200, description = "The requests", body = Page<AccessRequest>), Problems)
)]
pub(crate) async fn list_received_requests(
    Serving(registry): Serving,
    caller: Caller,
    QueryOf(query): QueryOf<ListReceivedRequests>,
) -> Result<Json<Page<AccessRequest>>, RegistryError> {
    check_length("tenant", query.tenant.as_deref(), MAX_NAME_CHARS)?;
    let slice = PageQuery::new(query.limit, query.cursor).slice()?;
    let limit = slice.limit;
    let adapter = query.adapter.as_deref().map(str::parse::<AdapterName>).transpose();
    let adapter =
        adapter.map_err(|error| RegistryError::bad_request("invalid_query", format!("`adapter`: {error}")))?;
    let which = Received { tenant: query.tenant, state: query.state, adapter };
    let rows = registry.received_requests(&caller.0, which, slice).await?;
    Ok(Json(Page::from_rows(rows, limit, |request| request.row.id.clone(), AccessRequest::from)))
}
