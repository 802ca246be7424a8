use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::error::RegistryError;
use crate::http::members::OfTenant;
use crate::http::{Caller, PathOf, Problem, Problems, QueryOf, Serving};

/// Which invitation.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct InvitationPath {
    /// The invitation's id.
    invitation: String,
}

/// Takes an invitation back: its link is worth nothing from now on.
///
/// Scope: `tenant:manage`. One that was used answers 410 `link_over`: remove the member instead.
#[utoipa::path(
    delete, path = "/invitations/{invitation}", tag = "members",
    params(InvitationPath, OfTenant),
    responses(
        (status = 204, description = "It cannot be used any more"),
        (status = 410, body = Problem, content_type = "application/problem+json",
         description = "The invitation was used"),
        Problems
    )
)]
pub(crate) async fn revoke_invitation(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<InvitationPath>,
    QueryOf(of): QueryOf<OfTenant>,
) -> Result<StatusCode, RegistryError> {
    registry.revoke_invitation(&caller.0, of.tenant(), &path.invitation).await?;
    Ok(StatusCode::NO_CONTENT)
}
