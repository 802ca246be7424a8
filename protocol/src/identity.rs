//! Who asks, what they may do, and what a name resolved to for them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::hooks::Attached;
use crate::{AdapterName, AllowedModels, Digest, FileGrant, KeyId, PersonId, TenantId};

/// One right that a key, a session or a token may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    /// Call models.
    #[serde(rename = "inference")]
    Inference,
    /// See and download adapters that the tenant may see.
    #[serde(rename = "adapters:read")]
    AdaptersRead,
    /// Create, publish, yank and delete the tenant's own adapters.
    #[serde(rename = "adapters:write")]
    AdaptersWrite,
    /// Create and revoke keys of the tenant.
    #[serde(rename = "keys:manage")]
    KeysManage,
    /// Decide who gets access to the tenant's gated adapters, and share others.
    #[serde(rename = "access:decide")]
    AccessDecide,
    /// Read who changed what in the tenant.
    #[serde(rename = "audit:read")]
    AuditRead,
    /// Read what the tenant used, and what it was charged.
    #[serde(rename = "usage:read")]
    UsageRead,
    /// Manage the tenant itself: members, the policy of its keys, webhooks, export.
    #[serde(rename = "tenant:manage")]
    TenantManage,
    /// Operate the installation: tenants, take-downs.
    #[serde(rename = "admin")]
    Admin,
}

/// The scopes of one key.
pub type Scopes = BTreeSet<Scope>;

/// A text that is not a scope.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "unknown scope `{0}`; scopes are inference, adapters:read, adapters:write, keys:manage, access:decide, audit:read, usage:read, tenant:manage, admin"
)]
pub struct UnknownScope(pub String);

impl Scope {
    /// All scopes, in the order of their rights.
    pub const ALL: [Self; 9] = [
        Self::Inference,
        Self::AdaptersRead,
        Self::AdaptersWrite,
        Self::KeysManage,
        Self::AccessDecide,
        Self::AuditRead,
        Self::UsageRead,
        Self::TenantManage,
        Self::Admin,
    ];

    /// The scope's name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inference => "inference",
            Self::AdaptersRead => "adapters:read",
            Self::AdaptersWrite => "adapters:write",
            Self::KeysManage => "keys:manage",
            Self::AccessDecide => "access:decide",
            Self::AuditRead => "audit:read",
            Self::UsageRead => "usage:read",
            Self::TenantManage => "tenant:manage",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| UnknownScope(text.chars().take(80).collect()))
    }
}

/// A caller whose key was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The tenant that the key belongs to.
    pub tenant: TenantId,
    /// The tenant's name: the `owner` half of its adapters' names.
    pub tenant_name: String,
    /// The key or the session that was presented, or the one that a token was made with.
    pub key: KeyId,
    /// Whose it is; `None` for a service's, which no member takes along who leaves.
    pub person: Option<PersonId>,
    /// What it may do.
    pub scopes: Scopes,
    /// Which models it may call; `None`: all that its tenant may.
    pub models: Option<AllowedModels>,
}

impl Principal {
    /// Whether the key carries `scope`. `admin` implies the others.
    #[must_use]
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }
}

/// Who may call an adapter no more that could before.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deprived {
    /// This tenant: what was granted to it was taken back.
    Tenant(TenantId),
    /// All but this one, which owns the adapter and has hidden it.
    AllBut(TenantId),
}

impl Deprived {
    /// Whether the tenant is among them.
    #[must_use]
    pub fn has(&self, tenant: &TenantId) -> bool {
        match self {
            Self::Tenant(deprived) => deprived == tenant,
            Self::AllBut(owner) => owner != tenant,
        }
    }
}

/// What an adapter reference meant for one caller at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedAdapter {
    /// The adapter's full name, `owner/name`.
    pub name: AdapterName,
    /// The version that the reference chose.
    pub version: semver::Version,
    /// Digest of that version's manifest.
    pub digest: Digest,
    /// Digest of the base model that it needs.
    pub base: Digest,
    /// Its largest rank; `None` where the registry does not say.
    pub rank: Option<u32>,
    /// What its publisher attached to it; `None`: nothing.
    pub hooks: Option<Arc<Attached>>,
    /// What a node fetches its files with; `None` where nodes read them without.
    pub grant: Option<FileGrant>,
}

/// What a service of the installation is, which says what it may ask registries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceKind {
    /// It knows callers, and is believed what it says of them.
    Gateway,
    /// It runs a base model. It may fetch the files of versions that it has a [`FileGrant`] for, and call gateways.
    Node,
}

impl ServiceKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Gateway, Self::Node];

    /// As it is stored and sent.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Node => "node",
        }
    }
}

impl fmt::Display for ServiceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no [`ServiceKind`]: that of a newer program, perhaps. It may nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a service is a gateway or a node, not `{0}`")]
pub struct UnknownServiceKind(String);

impl FromStr for ServiceKind {
    type Err = UnknownServiceKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| UnknownServiceKind(text.chars().take(40).collect()))
    }
}

/// Why a reference does not resolve for this caller.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// No such adapter or version, or another tenant's private one: the two are not told apart.
    #[error("the model `{0}` does not exist or you do not have access to it")]
    NotFound(String),
    /// The adapter is gated, and the caller's tenant was not granted access.
    #[error("the model `{0}` is gated, and you have no access to it")]
    NotGranted(String),
    /// The version exists and cannot be served yet.
    #[error("the model `{reference}` is not ready: its state is {state}")]
    NotReady {
        /// As asked for.
        reference: String,
        /// The state's name.
        state: String,
    },
    /// The version was taken down.
    #[error("the model `{0}` was taken down")]
    TakenDown(String),
    /// The store behind could not answer. The cause is for the log, not for the caller.
    #[error("the registry cannot answer now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}
