use axum::http::StatusCode;

use super::TeamPath;
use crate::error::RegistryError;
use crate::http::members::OfTenant;
use crate::http::{Caller, PathOf, Problems, QueryOf, Serving};

/// Deletes a team with its limits. Its members and keys are of none then, and go on.
///
/// Scope: `tenant:manage`. Another tenant's is 404.
#[utoipa::path(
    delete, path = "/teams/{team}", tag = "teams",
    params(TeamPath, OfTenant),
    responses((status = 204, description = "There is no such team any more"), Problems)
)]
pub(crate) async fn delete_team(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<TeamPath>,
    QueryOf(of): QueryOf<OfTenant>,
) -> Result<StatusCode, RegistryError> {
    registry.delete_team(&caller.0, of.tenant(), &path.team).await?;
    Ok(StatusCode::NO_CONTENT)
}
