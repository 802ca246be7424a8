use axum::http::StatusCode;

use super::{OfTenant, PersonPath};
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, QueryOf, Serving};

/// Ends a membership. The member's sessions and own keys end with it, within a second everywhere; keys of services stay.
///
/// Scope: `tenant:manage`. The last owner stays: 409 `last_owner`.
#[utoipa::path(
    delete, path = "/members/{person}", tag = "members",
    params(PersonPath, OfTenant),
    responses((status = 204, description = "The person is no member any more"), Problems)
)]
pub(crate) async fn remove_member(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<PersonPath>,
    QueryOf(of): QueryOf<OfTenant>,
) -> Result<StatusCode, RegistryError> {
    registry.remove_member(&caller.0, of.tenant(), &path.person).await?;
    Ok(StatusCode::NO_CONTENT)
}
