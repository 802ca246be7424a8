//! Teams of a tenant.

mod add_team_member;
mod create_team;
mod delete_team;
mod list_teams;
mod remove_team_member;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::db::{TeamRow, moment};

pub(crate) use add_team_member::*;
pub(crate) use create_team::*;
pub(crate) use delete_team::*;
pub(crate) use list_teams::*;
pub(crate) use remove_team_member::*;

/// Which team.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct TeamPath {
    /// The team's id.
    team: String,
}

/// Which member of which team.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct TeamMemberPath {
    /// The team's id.
    team: String,
    /// The person's id.
    person: String,
}

/// Some members and keys of a tenant, which have limits together.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Team {
    /// Its id.
    #[schema(example = "team_0190f0e0a0b07c0d8e0f0a0b0c0d0e0f")]
    id: String,
    /// Its name, which no other team of the tenant has.
    name: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

impl From<TeamRow> for Team {
    fn from(row: TeamRow) -> Self {
        Self { id: row.id, name: row.name, created_at: moment(row.created_at_ms) }
    }
}
