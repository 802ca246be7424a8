use axum::Json;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Team;
use crate::error::RegistryError;
use crate::http::page::{MAX_NAME_CHARS, check_length};
use crate::http::{Caller, Page, PageQuery, Problems, QueryOf, Serving};

/// Whose teams, and which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListTeams {
    /// A tenant's name; absent for the caller's own. Naming another takes the scope `admin`.
    tenant: Option<String>,
    /// Items per page, 1 to 100; 20 if absent.
    limit: Option<u64>,
    /// `next_cursor` of the page before; absent for the first page.
    cursor: Option<String>,
}

/// The tenant's teams, by name.
///
/// Scope: `tenant:manage`. Who is of a team is in the lists of members and keys.
#[utoipa::path(
    get, path = "/teams", tag = "teams",
    params(ListTeams),
    responses((status = 200, description = "A page of them", body = Page<Team>), Problems)
)]
pub(crate) async fn list_teams(
    Serving(registry): Serving,
    caller: Caller,
    QueryOf(request): QueryOf<ListTeams>,
) -> Result<Json<Page<Team>>, RegistryError> {
    check_length("tenant", request.tenant.as_deref(), MAX_NAME_CHARS)?;
    let slice = PageQuery::new(request.limit, request.cursor).slice()?;
    let limit = slice.limit;
    let rows = registry.list_teams(&caller.0, request.tenant.as_deref(), slice).await?;
    Ok(Json(Page::from_rows(rows, limit, |team| team.name.clone(), Team::from)))
}
