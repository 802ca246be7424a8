//! Services of the installation that call others.

mod create_service;
mod list_services;
mod revoke_service;

use serde::Serialize;
use souk_protocol::ServiceKind;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::db::{ServiceRow, moment};

pub(crate) use create_service::*;
pub(crate) use list_services::*;
pub(crate) use revoke_service::*;

/// What a service is, for the API's document.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case", as = ServiceKind)]
#[expect(dead_code, reason = "it documents a word of souk-protocol, which knows nothing of documents")]
pub(crate) enum ServiceKindName {
    /// It serves the OpenAI API.
    Gateway,
    /// It runs a base model.
    Node,
}

/// The key of a service, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Service {
    /// The public half of its key: the 12 characters after `souk_`.
    id: String,
    /// Its name. Another key may have the same while one follows the other.
    #[schema(example = "gateway-1")]
    name: String,
    /// What it is, which says what it may ask: `gateway` or `node`.
    #[schema(value_type = ServiceKindName)]
    kind: String,
    /// When the key was made.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// The id of the key that it was made with.
    made_by: String,
    /// When it was revoked; null if it was not.
    #[serde(with = "time::serde::rfc3339::option")]
    revoked_at: Option<OffsetDateTime>,
    /// The id of the key that revoked it; null as above.
    revoked_by: Option<String>,
}

impl From<ServiceRow> for Service {
    fn from(row: ServiceRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            // Those that were made before there were kinds.
            kind: row.kind.unwrap_or_else(|| ServiceKind::Gateway.to_string()),
            created_at: moment(row.created_at_ms),
            made_by: row.made_by,
            revoked_at: row.revoked_at_ms.map(moment),
            revoked_by: row.revoked_by,
        }
    }
}
