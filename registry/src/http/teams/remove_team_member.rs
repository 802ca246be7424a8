use axum::http::StatusCode;

use super::TeamMemberPath;
use crate::error::RegistryError;
use crate::http::members::OfTenant;
use crate::http::{Caller, PathOf, Problems, QueryOf, Serving};

/// Takes a member out of a team.
///
/// Scope: `tenant:manage`. One who is not of it is 404.
#[utoipa::path(
    delete, path = "/teams/{team}/members/{person}", tag = "teams",
    params(TeamMemberPath, OfTenant),
    responses((status = 204, description = "The member is of no team"), Problems)
)]
pub(crate) async fn remove_team_member(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<TeamMemberPath>,
    QueryOf(of): QueryOf<OfTenant>,
) -> Result<StatusCode, RegistryError> {
    registry.remove_team_member(&caller.0, of.tenant(), (&path.team, &path.person)).await?;
    Ok(StatusCode::NO_CONTENT)
}
