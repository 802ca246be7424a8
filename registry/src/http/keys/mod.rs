//! API keys of a tenant.

mod create_key;
mod list_keys;
mod revoke_key;

use serde::Serialize;
use souk_protocol::{Principal, Scope};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::tenants::tenant_by_name;
use crate::Registry;
use crate::auth::scopes_from_column;
use crate::db::entities::api_key;
use crate::db::moment;
use crate::error::RegistryError;

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
}

impl From<api_key::Model> for Key {
    fn from(row: api_key::Model) -> Self {
        Self {
            scopes: scopes_from_column(&row.scopes).into_iter().map(Scope::as_str).collect(),
            id: row.id,
            name: row.name,
            last_four: row.last_four,
            created_at: moment(row.created_at_ms),
            expires_at: row.expires_at_ms.map(moment),
            revoked_at: row.revoked_at_ms.map(moment),
            last_used_at: row.last_used_at_ms.map(moment),
        }
    }
}

/// The id of the tenant whose keys are meant: the caller's own, or for an operator the one named.
async fn tenant_of_keys(
    registry: &Registry,
    principal: &Principal,
    named: Option<&str>,
) -> Result<String, RegistryError> {
    match named {
        None => Ok(principal.tenant.to_string()),
        Some(name) if name == principal.tenant_name => Ok(principal.tenant.to_string()),
        Some(_) if !principal.may(Scope::Admin) => Err(RegistryError::MissingScope(Scope::Admin)),
        Some(name) => {
            let found = tenant_by_name(&registry.db, name).await?;
            let not_found = || RegistryError::NotFound { what: "tenant", name: name.to_owned() };
            Ok(found.ok_or_else(not_found)?.id)
        }
    }
}
