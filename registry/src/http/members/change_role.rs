use axum::Json;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Member, OfTenant, PersonPath};
use crate::error::RegistryError;
use crate::http::{Body, Caller, PathOf, Problems, QueryOf, Serving};
use crate::people::Role;

/// What is to change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeRole {
    /// What the member is from now on.
    role: Role,
}

/// Gives a member another role. If that has fewer scopes than the one before, the member's sessions and own keys end.
///
/// Scope: `tenant:manage`, and those of the new role (403 `scope_not_held`). The last owner stays one: 409 `last_owner`.
#[utoipa::path(
    patch, path = "/members/{person}", tag = "members",
    params(PersonPath, OfTenant),
    request_body = ChangeRole,
    responses((status = 200, description = "The member as it is now", body = Member), Problems)
)]
pub(crate) async fn change_role(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<PersonPath>,
    QueryOf(of): QueryOf<OfTenant>,
    Body(request): Body<ChangeRole>,
) -> Result<Json<Member>, RegistryError> {
    let member = registry.change_role(&caller.0, of.tenant(), &path.person, request.role).await?;
    Ok(Json(member.into()))
}
