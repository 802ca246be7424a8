use axum::Json;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Adapter;
use crate::adapters::AdapterDetails;
use crate::db::adapters::Filter;
use crate::error::RegistryError;
use crate::http::page::{MAX_NAME_CHARS, check_length};
use crate::http::{Caller, Page, PageQuery, Problems, QueryOf, Serving};
use crate::words::Visibility;

/// Longest text to search for.
const MAX_SEARCH_CHARS: usize = 200;

/// Which adapters, and which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListAdapters {
    /// Only those of this tenant.
    owner: Option<String>,
    /// Only those with this visibility.
    #[param(inline)]
    visibility: Option<Visibility>,
    /// Only those with this text, of up to 200 characters, in their name or description, in any case.
    search: Option<String>,
    /// Items per page, 1 to 100; 20 if absent.
    limit: Option<u64>,
    /// `next_cursor` of the page before; absent for the first page.
    cursor: Option<String>,
}

/// The adapters that the caller may see, by owner and name.
///
/// Scope: `adapters:read`.
#[utoipa::path(
    get, path = "/adapters", tag = "adapters",
    params(ListAdapters),
    responses((status = 200, body = Page<Adapter>, description = "A page of adapters"), Problems)
)]
pub(crate) async fn list_adapters(
    Serving(registry): Serving,
    caller: Caller,
    QueryOf(request): QueryOf<ListAdapters>,
) -> Result<Json<Page<Adapter>>, RegistryError> {
    check_length("search", request.search.as_deref(), MAX_SEARCH_CHARS)?;
    check_length("owner", request.owner.as_deref(), MAX_NAME_CHARS)?;
    let slice = PageQuery::new(request.limit, request.cursor).slice()?;
    let limit = slice.limit;
    let filter = Filter { owner: request.owner, visibility: request.visibility, search: request.search, after: None };
    let rows = registry.list_adapters(&caller.0, filter, slice).await?;
    let sort_key = |adapter: &AdapterDetails| format!("{}/{}", adapter.row.owner, adapter.row.name);
    Ok(Json(Page::from_rows(rows, limit, sort_key, Adapter::from)))
}
