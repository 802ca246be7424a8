//! What looks at components: a port, since compiling is not the registry's, and its crate is none that it depends on.

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use souk_protocol::TenantId;
use souk_protocol::hooks::{HookLimit, HookLimits};
use utoipa::ToSchema;

use crate::error::Finding;

/// Looks at what is uploaded as a hook: checks it, compiles it in a process apart, and tries it.
#[async_trait]
pub trait HookIntake: Send + Sync {
    /// What there is to know of a component of a tenant, on the terms that it has.
    ///
    /// # Errors
    /// [`NotJudged`].
    async fn judge(&self, tenant: &TenantId, component: Bytes, terms: &HookTerms) -> Result<JudgedHook, NotJudged>;

    /// Most bytes of a component, of a large one if so asked.
    fn most_bytes(&self, is_large: bool) -> u64;

    /// What can be said of a limit for a tenant.
    fn offered(&self, limit: HookLimit) -> OfferedLimit;
}

/// What can be said of a limit for a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferedLimit {
    /// The least.
    pub least: u64,
    /// What holds where nothing is said.
    pub usual: u64,
    /// The most.
    pub most: u64,
}

/// What a tenant may publish and have run.
#[derive(Clone, Debug, Default)]
pub struct HookTerms {
    /// Whether it may publish large components.
    pub is_large: bool,
    /// What the operator said that its hooks may take.
    pub limits: HookLimits,
}

/// A component that can be served.
#[derive(Clone, Debug)]
pub struct JudgedHook {
    /// What was found.
    pub report: HookReport,
    /// What it was compiled to.
    pub artifact: SealedHook,
}

/// What a component was compiled to, closed so that nobody else can have made it.
#[derive(Clone, Debug)]
pub struct SealedHook {
    /// For which engine: a hash.
    pub engine: String,
    /// What only an engine with the same hash and the same key takes.
    pub bytes: Bytes,
}

/// Why a component is not served.
#[derive(Debug, thiserror::Error)]
pub enum NotJudged {
    /// For what is wrong with it.
    #[error("the component was rejected")]
    Rejected(Vec<Finding>),
    /// For no fault of it.
    #[error("the component cannot be looked at now")]
    Unavailable(#[source] std::io::Error),
}

/// What was found when a version was published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HookReport {
    /// Length of the component.
    pub size_bytes: u64,
    /// The generation of the interface that it was made for.
    #[schema(example = "0.1.0")]
    pub interface: String,
    /// What it exports: `prompt`, `answer`, `stream`, `describe`.
    pub exports: Vec<String>,
    /// What it imports, which is all that it can reach.
    pub imports: Vec<String>,
    /// What it says of itself, if it does.
    pub description: Option<HookDescription>,
    /// What it took to try it.
    pub self_test: SelfTest,
}

/// What a hook says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HookDescription {
    /// What it is called, for people.
    pub name: String,
    /// Its version, for people.
    pub version: String,
    /// One sentence.
    pub summary: String,
    /// A JSON Schema that configurations of it have to fit.
    pub config_schema: Option<Value>,
}

/// What a hook took when it was made once and asked what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SelfTest {
    /// Fuel.
    pub fuel: u64,
    /// Most bytes of memory.
    pub peak_memory_bytes: u64,
    /// Milliseconds that compiling it took.
    pub compiled_in_ms: u64,
    /// Bytes that it was compiled to.
    pub compiled_bytes: u64,
}
