use axum::Json;

use super::{RequestsPage, UsageRequest};
use crate::error::RegistryError;
use crate::http::{Caller, Page, PageQuery, Problems, QueryOf, Serving};
use crate::usage::read::UsedRequest;

/// Requests that were queued, the newest first, each with its jobs and what they were charged. They are kept for a while; sums
/// stay.
///
/// Scope: `usage:read`. Another tenant's take the scope `admin`.
#[utoipa::path(
    get, path = "/usage/requests", tag = "usage",
    params(RequestsPage),
    responses((status = 200, description = "Requests, the newest first", body = Page<UsageRequest>), Problems)
)]
pub(crate) async fn list_usage_requests(
    Serving(registry): Serving,
    caller: Caller,
    QueryOf(request): QueryOf<RequestsPage>,
) -> Result<Json<Page<UsageRequest>>, RegistryError> {
    let asked = request.asked()?;
    let slice = PageQuery::new(request.limit, request.cursor).slice()?;
    let (rows, names) = registry.used_requests(&caller.0, &asked, &slice).await?;
    let item = |request| UsageRequest::new(request, &names);
    Ok(Json(Page::from_rows(rows, slice.limit, UsedRequest::key, item)))
}
