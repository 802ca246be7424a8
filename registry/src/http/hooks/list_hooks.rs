use axum::Json;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Hook;
use crate::db::hooks::Filter;
use crate::error::RegistryError;
use crate::hooks::HookDetails;
use crate::http::page::{MAX_NAME_CHARS, check_length};
use crate::http::{Caller, Page, PageQuery, Problems, QueryOf, Serving};
use crate::words::Visibility;

/// Longest text to search for.
const MAX_SEARCH_CHARS: usize = 200;

/// Which hooks, and which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListHooks {
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

/// The hooks that the caller may see and attach, by owner and name.
///
/// Scope: `adapters:read`.
#[utoipa::path(
    get, path = "/hooks", tag = "hooks",
    params(ListHooks),
    responses((status = 200, body = Page<Hook>, description = "A page of hooks"), Problems)
)]
pub(crate) async fn list_hooks(
    Serving(registry): Serving,
    caller: Caller,
    QueryOf(request): QueryOf<ListHooks>,
) -> Result<Json<Page<Hook>>, RegistryError> {
    check_length("search", request.search.as_deref(), MAX_SEARCH_CHARS)?;
    check_length("owner", request.owner.as_deref(), MAX_NAME_CHARS)?;
    let slice = PageQuery::new(request.limit, request.cursor).slice()?;
    let limit = slice.limit;
    let filter = Filter { owner: request.owner, visibility: request.visibility, search: request.search, after: None };
    let rows = registry.list_hooks(&caller.0, filter, slice).await?;
    Ok(Json(Page::from_rows(rows, limit, |hook: &HookDetails| hook.row.full_name(), Hook::from)))
}
