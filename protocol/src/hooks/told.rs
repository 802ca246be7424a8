//! What gateways say of hooks: counts, for rows of usage; lines and failures, for their owners.

use serde::{Deserialize, Serialize};

use super::Part;
use crate::ids::HookVersionId;
use crate::{RequestId, TenantId};

/// What a hook did in one request, in the request's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookUse {
    /// Which version.
    pub version: HookVersionId,
    /// How often it was called: once for a prompt, for each answer, for each stream.
    pub calls: u32,
    /// How often it failed.
    #[serde(default)]
    pub failures: u32,
    /// How often the request went on although it had failed.
    #[serde(default)]
    pub skipped: u32,
    /// How often it refused.
    #[serde(default)]
    pub refusals: u32,
    /// Fuel that it used.
    pub fuel: u64,
    /// Processor time that it used, in microseconds.
    #[serde(default)]
    pub processor_us: u64,
}

impl HookUse {
    /// Nothing yet.
    #[must_use]
    pub const fn none(version: HookVersionId) -> Self {
        Self { version, calls: 0, failures: 0, skipped: 0, refusals: 0, fuel: 0, processor_us: 0 }
    }
}

/// Something that the owner of a hook may read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookLine {
    /// Which version.
    pub version: HookVersionId,
    /// Whose request it was. The owner is not told; it goes with that tenant.
    pub tenant: TenantId,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// In which request; absent for another tenant's that did not grant it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// What.
    pub what: HookTold,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookTold {
    /// It wrote a line. Never of another tenant's request, unless that tenant granted it.
    Log {
        /// `debug`, `info`, `warn` or `error`.
        level: String,
        /// The line.
        text: String,
    },
    /// It failed.
    Failed {
        /// In which part.
        part: Part,
        /// The host's own word for how.
        code: String,
        /// What the hook said of it, under the same condition as a line.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
}
