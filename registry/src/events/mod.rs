//! What is told outside: an event for each change that others wait for, written to the outbox in the change's own
//! transaction, so that none is told that did not happen, and none that happened is forgotten.

use sea_orm::{DatabaseTransaction, DbErr};
use serde_json::Value;
use souk_protocol::TenantId;
use uuid::Uuid;

use crate::db::{outbox, webhook_deliveries, webhook_endpoints};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    VersionReady,
    VersionYanked,
    VersionUnyanked,
    VersionTakenDown,
    VersionDeleted,
    KeyRevoked,
    KeyLeaked,
    AccessRequested,
    AccessDecided,
    LimitReached,
    HookVersionReady,
    HookVersionYanked,
    HookVersionUnyanked,
    HookVersionTakenDown,
    HookVersionDeleted,
}

/// One thing that happened, for the tenant that is to hear of it.
pub(crate) struct Event<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) kind: Kind,
    /// The id or name of the thing.
    pub(crate) subject: &'a str,
    /// An object.
    pub(crate) payload: Value,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 15] = [
        Self::VersionReady,
        Self::VersionYanked,
        Self::VersionUnyanked,
        Self::VersionTakenDown,
        Self::VersionDeleted,
        Self::KeyRevoked,
        Self::KeyLeaked,
        Self::AccessRequested,
        Self::AccessDecided,
        Self::LimitReached,
        Self::HookVersionReady,
        Self::HookVersionYanked,
        Self::HookVersionUnyanked,
        Self::HookVersionTakenDown,
        Self::HookVersionDeleted,
    ];

    /// The kind with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// As subscribers name it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::VersionReady => "version.ready",
            Self::VersionYanked => "version.yanked",
            Self::VersionUnyanked => "version.unyanked",
            Self::VersionTakenDown => "version.taken_down",
            Self::VersionDeleted => "version.deleted",
            Self::KeyRevoked => "key.revoked",
            Self::KeyLeaked => "key.leaked",
            Self::AccessRequested => "access.requested",
            Self::AccessDecided => "access.decided",
            Self::LimitReached => "limit.reached",
            Self::HookVersionReady => "hook_version.ready",
            Self::HookVersionYanked => "hook_version.yanked",
            Self::HookVersionUnyanked => "hook_version.unyanked",
            Self::HookVersionTakenDown => "hook_version.taken_down",
            Self::HookVersionDeleted => "hook_version.deleted",
        }
    }
}

/// Writes an event to the outbox in the transaction of the change, with a delivery for each endpoint of the tenant that wants
/// it. One that is paused gets its own when it is enabled again.
pub(crate) async fn emit(transaction: &DatabaseTransaction, event: Event<'_>) -> Result<(), DbErr> {
    let id = format!("evt_{}", Uuid::now_v7().simple());
    let payload = event.payload.to_string();
    let (tenant, kind) = (event.tenant, event.kind.as_str());
    outbox::insert(transaction, id.clone(), tenant, kind, event.subject, payload).await?;
    for endpoint in webhook_endpoints::of_tenant(transaction, tenant).await? {
        if endpoint.wants(kind) {
            webhook_deliveries::insert(transaction, tenant, &endpoint.id, &id, None).await?;
        }
    }
    Ok(())
}
