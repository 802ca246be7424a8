//! API keys of a tenant.

mod create_key;
mod list_keys;
mod report_leaked_keys;
mod revoke_key;
mod rotate_key;

use serde::{Deserialize, Serialize};
use souk_protocol::Scope;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::auth::scopes_from_column;
use crate::db::{KeyRow, moment};
use crate::keys::Whose;

pub(crate) use create_key::*;
pub(crate) use list_keys::*;
pub(crate) use report_leaked_keys::*;
pub(crate) use revoke_key::*;
pub(crate) use rotate_key::*;

/// Whose a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeyKind {
    /// A person's: it does what the person's role still allows, and ends when the person leaves.
    Personal,
    /// A service's: it stays, whoever leaves.
    Service,
}

/// A key without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Key {
    /// The public half: the 12 characters after `souk_`.
    id: String,
    /// What its owner calls it.
    name: String,
    /// Whose it is.
    kind: KeyKind,
    /// The id of that person; null for a service's.
    person: Option<String>,
    /// What it may do; a person's no more than the person's role allows at the time.
    #[schema(example = json!(["inference", "adapters:read"]))]
    scopes: Vec<&'static str>,
    /// Which models it may call; null for all that the tenant may.
    #[schema(example = json!(["acme/sst2", "acme/tone:prod", "partner/*"]))]
    models: Option<Vec<String>>,
    /// The id of the team that a service's key is of; null for none. A personal key is of the team that its person is of.
    team: Option<String>,
    /// The last four characters of the key.
    last_four: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// When it stops working by itself; null for never.
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// When it was revoked; null if it was not.
    #[serde(with = "time::serde::rfc3339::option")]
    revoked_at: Option<OffsetDateTime>,
    /// When it was last used, to the minute; null if it never was.
    #[serde(with = "time::serde::rfc3339::option")]
    last_used_at: Option<OffsetDateTime>,
    /// The id of the key or session that it was made with; null if the host made it, or if that key is not the caller's to see.
    made_by: Option<String>,
    /// The id of the key that revoked it, or one that it was made with; null as above.
    revoked_by: Option<String>,
    /// Why it was revoked: `leaked` (somebody showed it), `left` (its person left the tenant), `policy`, `rotated`, `erased` (with its tenant); null
    /// where somebody asked for it.
    revoked_for: Option<String>,
    /// The id of the key that took its place; null as above.
    replaced_by: Option<String>,
}

impl From<KeyKind> for Whose {
    fn from(kind: KeyKind) -> Self {
        match kind {
            KeyKind::Personal => Self::Person,
            KeyKind::Service => Self::Service,
        }
    }
}

impl From<KeyRow> for Key {
    fn from(row: KeyRow) -> Self {
        Self {
            kind: if row.person_id.is_some() { KeyKind::Personal } else { KeyKind::Service },
            person: row.person_id,
            scopes: scopes_from_column(&row.scopes).into_iter().map(Scope::as_str).collect(),
            models: row.models.map(|models| models.split_whitespace().map(str::to_owned).collect()),
            team: row.team_id,
            id: row.id,
            name: row.name,
            last_four: row.last_four,
            created_at: moment(row.created_at_ms),
            expires_at: row.expires_at_ms.map(moment),
            revoked_at: row.revoked_at_ms.map(moment),
            last_used_at: row.last_used_at_ms.map(moment),
            made_by: row.made_by,
            revoked_by: row.revoked_by,
            revoked_for: row.revoked_for,
            replaced_by: row.replaced_by,
        }
    }
}
