//! Who changed what.

mod export_audit;
mod list_audit;
mod list_audit_heads;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::audit::ChainRequest;
use crate::db::{AuditEntryRow, PublishedHeadRow, moment};
use crate::error::RegistryError;
use crate::http::page::{MAX_NAME_CHARS, PageQuery, check_length};
use crate::slice::Slice;

pub(crate) use export_audit::*;
pub(crate) use list_audit::*;
pub(crate) use list_audit_heads::*;

/// Which chain, and which page of it.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ChainPage {
    /// A tenant's name; absent for the caller's own. Naming another takes the scope `admin`.
    tenant: Option<String>,
    /// `true` for the chain of what belongs to no tenant. It takes the scope `admin`.
    installation: Option<bool>,
    /// Items per page, 1 to 100; 20 if absent.
    limit: Option<u64>,
    /// `next_cursor` of the page before; absent for the first page.
    cursor: Option<String>,
}

/// A change that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditEntry {
    /// Within its chain, from 1.
    number: i64,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// Who made it.
    actor: AuditActor,
    /// What was done, for example `key.created`.
    #[schema(example = "key.created")]
    action: String,
    /// The id or name of what it was done with.
    subject: String,
    /// What else tells the change: ids and states.
    #[schema(value_type = Object)]
    details: Value,
    /// SHA-256, in hex, over the hash of the entry before and all of this one (docs/audit.md).
    hash: String,
}

/// Who made a change.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditActor {
    /// `key` (a service's), `person`, `host` (a command on the host, or a start) or `system` (the registry by itself).
    #[schema(example = "key")]
    kind: String,
    /// The key's id or the person's; null for the others.
    id: Option<String>,
    /// The key or session that a person used.
    key: Option<String>,
}

/// Where a chain ended at some moment.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditHead {
    /// The chain: the tenant's id, or `installation`.
    chain: String,
    /// The number of its last entry then.
    number: i64,
    /// The hash of that entry.
    hash: String,
    /// When it was published.
    #[serde(with = "time::serde::rfc3339")]
    published_at: OffsetDateTime,
}

impl ChainPage {
    /// The chain and the part of it.
    fn read(self) -> Result<(ChainRequest, Slice), RegistryError> {
        let slice = PageQuery::new(self.limit, self.cursor).slice()?;
        Ok((chain_request(self.tenant, self.installation)?, slice))
    }
}

fn chain_request(tenant: Option<String>, installation: Option<bool>) -> Result<ChainRequest, RegistryError> {
    check_length("tenant", tenant.as_deref(), MAX_NAME_CHARS)?;
    let installation = installation.unwrap_or(false);
    if installation && tenant.is_some() {
        let detail = "`tenant` and `installation` name two chains; give one of them";
        return Err(RegistryError::bad_request("invalid_query", detail));
    }
    Ok(ChainRequest { tenant, installation })
}

impl From<AuditEntryRow> for AuditEntry {
    fn from(row: AuditEntryRow) -> Self {
        let id = Some(row.actor_id).filter(|id| !id.is_empty());
        Self {
            number: row.number,
            at: moment(row.at_ms),
            actor: AuditActor { kind: row.actor_kind, id, key: row.actor_key },
            action: row.action,
            subject: row.subject,
            details: serde_json::from_str(&row.details).unwrap_or(Value::String(row.details)),
            hash: row.hash,
        }
    }
}

impl From<PublishedHeadRow> for AuditHead {
    fn from(row: PublishedHeadRow) -> Self {
        let PublishedHeadRow { tenant_id: chain, number, hash, published_at_ms } = row;
        Self { chain, number, hash, published_at: moment(published_at_ms) }
    }
}
