use axum::Json;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Team;
use crate::error::RegistryError;
use crate::http::{Body, Caller, IdempotencyKey, Problems, Serving};
use crate::idempotency::Once;

/// A team to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateTeam {
    /// 1 to 64 of a-z, 0-9, `-`, `_`, `.`, beginning with a letter or digit.
    name: String,
    /// The tenant, by name; absent for the caller's own. Naming another takes the scope `admin`.
    tenant: Option<String>,
}

/// Makes a team. Nobody is of it yet, and it limits nothing.
///
/// Scope: `tenant:manage`. A name that another team of the tenant has answers 409 `already_exists`.
#[utoipa::path(
    post, path = "/teams", tag = "teams",
    params(IdempotencyKey),
    request_body = CreateTeam,
    responses((status = 201, body = Team, description = "The team"), Problems)
)]
pub(crate) async fn create_team(
    Serving(registry): Serving,
    caller: Caller,
    once: Once,
    Body(request): Body<CreateTeam>,
) -> Result<(StatusCode, Json<Team>), RegistryError> {
    let CreateTeam { name, tenant } = request;
    let team = registry.create_team(&caller.0, tenant.as_deref(), &name, &once, Team::from).await?;
    Ok((StatusCode::CREATED, Json(team.into())))
}
