use axum::http::StatusCode;

use super::TeamMemberPath;
use crate::error::RegistryError;
use crate::http::members::OfTenant;
use crate::http::{Caller, PathOf, Problems, QueryOf, Serving};

/// Puts a member into a team, with all sessions and own keys; out of the one that they were of.
///
/// Scope: `tenant:manage`. What they used before stays counted where it was.
#[utoipa::path(
    put, path = "/teams/{team}/members/{person}", tag = "teams",
    params(TeamMemberPath, OfTenant),
    responses((status = 204, description = "The member is of the team"), Problems)
)]
pub(crate) async fn add_team_member(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<TeamMemberPath>,
    QueryOf(of): QueryOf<OfTenant>,
) -> Result<StatusCode, RegistryError> {
    registry.add_team_member(&caller.0, of.tenant(), (&path.team, &path.person)).await?;
    Ok(StatusCode::NO_CONTENT)
}
