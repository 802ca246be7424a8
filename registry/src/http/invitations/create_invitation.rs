use axum::Json;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Invitation;
use crate::error::RegistryError;
use crate::http::{Body, Caller, IdempotencyKey, Problems, Serving};
use crate::idempotency::Once;
use crate::people::{InvitationRequest, Role};

/// An invitation to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateInvitation {
    /// Who is asked. No mail is sent: hand the link over.
    #[schema(example = "ada@example.com")]
    email: String,
    /// What they become.
    role: Role,
    /// A tenant's name; absent for the caller's own. Naming another takes the scope `admin`.
    tenant: Option<String>,
}

/// A new invitation.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedInvitation {
    /// The address to open. This is the only time that it is shown; absent from an answer that is repeated for an
    /// `Idempotency-Key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    /// What is kept of it.
    #[serde(flatten)]
    invitation: Invitation,
}

/// Asks an address to become a member, and shows the link for it, once.
///
/// Scope: `tenant:manage`, and those of the role (403 `scope_not_held`). Whoever opens the link becomes a member, once; with a
/// provider of identities only who has the address.
#[utoipa::path(
    post, path = "/invitations", tag = "members",
    params(IdempotencyKey),
    request_body = CreateInvitation,
    responses((status = 201, description = "The invitation and its link", body = CreatedInvitation), Problems)
)]
pub(crate) async fn create_invitation(
    Serving(registry): Serving,
    caller: Caller,
    once: Once,
    Body(request): Body<CreateInvitation>,
) -> Result<(StatusCode, Json<CreatedInvitation>), RegistryError> {
    let CreateInvitation { email, role, tenant } = request;
    let request = InvitationRequest { email, role, tenant };
    let kept = |row| CreatedInvitation { link: None, invitation: Invitation::from(row) };
    let made = registry.invite(&caller.0, request, &once, kept).await?;
    let answer = CreatedInvitation { link: Some(made.link), invitation: made.row.into() };
    Ok((StatusCode::CREATED, Json(answer)))
}
