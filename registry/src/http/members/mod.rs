//! Members of a tenant, and links that sign them in.

mod change_role;
mod create_sign_in_link;
mod erase_person;
mod list_members;
mod remove_member;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::db::moment;
use crate::people::{MemberDetails, Role};

pub(crate) use change_role::*;
pub(crate) use create_sign_in_link::*;
pub(crate) use erase_person::*;
pub(crate) use list_members::*;
pub(crate) use remove_member::*;

/// Which person.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct PersonPath {
    /// The person's id.
    person: String,
}

/// Of which tenant.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfTenant {
    /// A tenant's name; absent for the caller's own. Naming another takes the scope `admin`.
    tenant: Option<String>,
}

impl OfTenant {
    pub(crate) fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }
}

/// A member.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Member {
    /// The person's id.
    person: String,
    /// What a provider of identities calls them; null if none said.
    name: Option<String>,
    /// Their address; null if it is not known.
    email: Option<String>,
    /// Whether a provider of identities vouches for the address.
    email_is_verified: bool,
    /// What they are.
    role: Role,
    /// The id of the team that they are of; null for none.
    team: Option<String>,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    joined_at: OffsetDateTime,
}

impl From<MemberDetails> for Member {
    fn from(MemberDetails { row, person }: MemberDetails) -> Self {
        Self {
            role: Role::from_column(&row.role),
            person: row.person_id,
            team: row.team_id,
            name: person.name,
            email: person.email,
            email_is_verified: person.email_is_verified,
            joined_at: moment(row.joined_at_ms),
        }
    }
}
