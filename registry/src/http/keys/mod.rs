//! API keys of a tenant.

mod create_key;
mod list_keys;
mod revoke_key;

use serde::Serialize;
use souk_protocol::Scope;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::auth::scopes_from_column;
use crate::db::{KeyRow, moment};

pub(crate) use create_key::*;
pub(crate) use list_keys::*;
pub(crate) use revoke_key::*;

/// A key without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Key {
    /// The public half: the 12 characters after `souk_`.
    id: String,
    /// What its owner calls it.
    name: String,
    /// What it may do.
    #[schema(example = json!(["inference", "adapters:read"]))]
    scopes: Vec<&'static str>,
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
    /// The id of the key that it was made with; null if the host made it, or if that key is not the caller's to see.
    made_by: Option<String>,
    /// The id of the key that revoked it, or one that it was made with; null as above.
    revoked_by: Option<String>,
}

impl From<KeyRow> for Key {
    fn from(row: KeyRow) -> Self {
        Self {
            scopes: scopes_from_column(&row.scopes).into_iter().map(Scope::as_str).collect(),
            id: row.id,
            name: row.name,
            last_four: row.last_four,
            created_at: moment(row.created_at_ms),
            expires_at: row.expires_at_ms.map(moment),
            revoked_at: row.revoked_at_ms.map(moment),
            last_used_at: row.last_used_at_ms.map(moment),
            made_by: row.made_by,
            revoked_by: row.revoked_by,
        }
    }
}
