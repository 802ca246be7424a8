//! Invitations: who is asked to become a member.

mod accept_invitation;
mod create_invitation;
mod list_invitations;
mod revoke_invitation;

use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::db::{InvitationRow, moment, now_ms};
use crate::people::Role;

pub(crate) use accept_invitation::*;
pub(crate) use create_invitation::*;
pub(crate) use list_invitations::*;
pub(crate) use revoke_invitation::*;

/// An invitation without its link.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Invitation {
    /// Opaque id.
    id: String,
    /// Who is asked; null once the person was erased.
    email: Option<String>,
    /// What they become.
    role: Role,
    /// What has become of it.
    state: InvitationState,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// Until when it can be used.
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
    /// The key or session that it was made with.
    made_by: String,
    /// The person who used it; null if nobody has.
    accepted_by: Option<String>,
}

/// What has become of an invitation.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InvitationState {
    /// It can be used.
    Open,
    /// Somebody has become a member by it.
    Accepted,
    /// It was taken back.
    Revoked,
    /// Its time is over.
    Expired,
}

impl From<InvitationRow> for Invitation {
    fn from(row: InvitationRow) -> Self {
        let state = if row.accepted_at_ms.is_some() {
            InvitationState::Accepted
        } else if row.revoked_at_ms.is_some() {
            InvitationState::Revoked
        } else if row.expires_at_ms <= now_ms() {
            InvitationState::Expired
        } else {
            InvitationState::Open
        };
        Self {
            role: Role::from_column(&row.role),
            id: row.id,
            email: row.email,
            state,
            created_at: moment(row.created_at_ms),
            expires_at: moment(row.expires_at_ms),
            made_by: row.made_by,
            accepted_by: row.accepted_by,
        }
    }
}
