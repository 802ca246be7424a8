use axum::http::StatusCode;

use super::PersonPath;
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};

/// Erases a person: name, address and identities go, memberships, sessions and links end. The id stays, to which others
/// refer.
///
/// Scope: `admin`. The last owner of a tenant has to be followed by another first: 409 `last_owner`.
#[utoipa::path(
    delete, path = "/persons/{person}", tag = "members",
    params(PersonPath),
    responses((status = 204, description = "Nothing is known of the person any more"), Problems)
)]
pub(crate) async fn erase_person(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<PersonPath>,
) -> Result<StatusCode, RegistryError> {
    registry.erase_person(&caller.0, &path.person).await?;
    Ok(StatusCode::NO_CONTENT)
}
