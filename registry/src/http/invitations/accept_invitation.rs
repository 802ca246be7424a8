use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::error::RegistryError;
use crate::http::{Body, Problem, Problems, Sender, Serving, Session};

/// An invitation to be used.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AcceptInvitation {
    /// The end of the invitation's link, after the last slash.
    secret: String,
}

/// Makes the person who is signed in a member, as an invitation says; the session then acts for that tenant.
///
/// Needs a session. For a person whom a provider of identities vouches for, the invitation's address has to be theirs: 403
/// `other_address`. A link that is not known is 404; one that is over is 410 `link_over`.
#[utoipa::path(
    post, path = "/invitations/accept", tag = "members",
    request_body = AcceptInvitation,
    security(("session" = [])),
    responses(
        Problems,
        (status = 204, description = "The person is a member now"),
        (status = 404, body = Problem, content_type = "application/problem+json",
         description = "No invitation has this secret"),
        (status = 410, body = Problem, content_type = "application/problem+json",
         description = "The invitation was used, taken back, or is too old")
    )
)]
pub(crate) async fn accept_invitation(
    Serving(registry): Serving,
    session: Session,
    sender: Sender,
    Body(request): Body<AcceptInvitation>,
) -> Result<StatusCode, RegistryError> {
    registry.one_more_attempt(sender.0)?;
    registry.accept_invitation(&session.0, &request.secret).await?;
    Ok(StatusCode::NO_CONTENT)
}
