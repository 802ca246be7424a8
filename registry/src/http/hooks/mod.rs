//! Hooks: names, their versions, who may attach them, and what they did and said.

mod create_hook;
mod delete_hook;
mod delete_hook_grant;
mod delete_hook_version;
mod download_component;
mod get_hook;
mod get_hook_limits;
mod get_hook_settings;
mod get_hook_usage;
mod get_hook_version;
mod list_hook_grants;
mod list_hook_lines;
mod list_hook_versions;
mod list_hooks;
mod publish_hook_version;
mod put_hook_grant;
mod set_hook_limits;
mod set_hook_settings;
mod take_down_hook_version;
mod update_hook;
mod yank_hook_version;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::db::moment;
use crate::hooks::{
    HookDetails, HookGrantDetails, HookLimitDetails, HookLimitsDetails, HookReport, HookSettingsDetails,
    HookVersionDetails,
};
use crate::words::{VersionState, Visibility};

pub(crate) use create_hook::*;
pub(crate) use delete_hook::*;
pub(crate) use delete_hook_grant::*;
pub(crate) use delete_hook_version::*;
pub(crate) use download_component::*;
pub(crate) use get_hook::*;
pub(crate) use get_hook_limits::*;
pub(crate) use get_hook_settings::*;
pub(crate) use get_hook_usage::*;
pub(crate) use get_hook_version::*;
pub(crate) use list_hook_grants::*;
pub(crate) use list_hook_lines::*;
pub(crate) use list_hook_versions::*;
pub(crate) use list_hooks::*;
pub(crate) use publish_hook_version::*;
pub(crate) use put_hook_grant::*;
pub(crate) use set_hook_limits::*;
pub(crate) use set_hook_settings::*;
pub(crate) use take_down_hook_version::*;
pub(crate) use update_hook::*;
pub(crate) use yank_hook_version::*;

/// Which hook.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct HookPath {
    /// The tenant that owns it.
    owner: String,
    /// Its name.
    hook: String,
}

/// Which version of a hook.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct HookVersionPath {
    /// The tenant that owns the hook.
    owner: String,
    /// The hook's name.
    hook: String,
    /// The version's number.
    version: String,
}

/// Which grant of a hook.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct HookGrantPath {
    /// The tenant that owns the hook.
    owner: String,
    /// The hook's name.
    hook: String,
    /// The tenant that it is granted to.
    tenant: String,
}

/// A hook.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Hook {
    /// `owner/name`: how steps of pipelines name it.
    id: String,
    /// The tenant that owns it.
    owner: String,
    /// Its name.
    name: String,
    /// Who may see and attach it: `private`, `shared` or `public`.
    visibility: Visibility,
    /// What it is for.
    description: String,
    /// The version that `owner/name` means: the highest ready one that is not a pre-release. Null if there is none.
    latest_version: Option<String>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// When its description, visibility or versions last changed.
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

/// A version of a hook.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HookVersion {
    /// `owner/name@version`.
    id: String,
    /// The number.
    version: String,
    /// Where it stands: `ready`, `yanked` or `taken_down`.
    state: VersionState,
    /// Why the operator took it down; null otherwise.
    state_reason: Option<String>,
    /// SHA-256 of its component: its identity.
    digest: String,
    /// What was found when it was published; null after an erasure.
    report: Option<HookReport>,
    /// When it was published.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// That a tenant may attach a hook while it is shared.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HookGrant {
    /// The tenant's name.
    tenant: String,
    /// When it was granted.
    #[serde(with = "time::serde::rfc3339")]
    granted_at: OffsetDateTime,
    /// The key or session that granted it.
    granted_by: String,
}

/// What a tenant's hooks may read of it, and who reads what hooks say in its requests.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HookSettings {
    /// What hooks that the tenant attached read with `variables`.
    variables: BTreeMap<String, String>,
    /// Names of tenants that may read what their hooks say in this tenant's requests. Of its own hooks it reads that anyway.
    log_readers: Vec<String>,
    /// When they were set; null if they never were.
    #[serde(with = "time::serde::rfc3339::option")]
    updated_at: Option<OffsetDateTime>,
}

/// What hooks of a tenant may take.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HookLimits {
    /// By name, as in `[hooks.limits]` of the settings and with its units: `memory_mb`, `max_table_elements`, `max_input_bytes`,
    /// `max_output_bytes`, `max_host_calls`, `max_host_bytes`, `max_counted_bytes`, `max_log_lines`, `max_log_bytes`, `max_fuel`,
    /// `max_stream_fuel`, `processor_ms`, `stream_processor_ms`; and what is under way at once in a gateway: `max_running` calls and
    /// `max_streams` streams.
    limits: BTreeMap<&'static str, HookLimit>,
    /// Whether the tenant may publish large components, such as those made of Python.
    large_components: bool,
    /// When something was last said of them; null if nothing ever was.
    #[serde(with = "time::serde::rfc3339::option")]
    updated_at: Option<OffsetDateTime>,
}

/// One of them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HookLimit {
    /// What it is.
    value: u64,
    /// Whether it is what the settings say, since nothing was said for the tenant.
    is_default: bool,
    /// Most that can be said for a tenant.
    most: u64,
}

impl From<HookDetails> for Hook {
    fn from(HookDetails { row, latest }: HookDetails) -> Self {
        Self {
            id: row.full_name(),
            visibility: Visibility::from_column(&row.visibility),
            owner: row.owner,
            name: row.name,
            description: row.description,
            latest_version: latest.map(|latest| latest.to_string()),
            created_at: moment(row.created_at_ms),
            updated_at: moment(row.updated_at_ms),
        }
    }
}

impl From<HookVersionDetails> for HookVersion {
    fn from(HookVersionDetails { hook, row }: HookVersionDetails) -> Self {
        Self {
            id: format!("{hook}@{}", row.version),
            state: row.state(),
            version: row.version,
            state_reason: row.state_reason,
            digest: row.digest,
            report: row.report.as_deref().and_then(|report| serde_json::from_str(report).ok()),
            created_at: moment(row.created_at_ms),
        }
    }
}

impl From<HookGrantDetails> for HookGrant {
    fn from(HookGrantDetails { row, tenant }: HookGrantDetails) -> Self {
        Self { tenant, granted_at: moment(row.granted_at_ms), granted_by: row.granted_by }
    }
}

impl From<HookSettingsDetails> for HookSettings {
    fn from(HookSettingsDetails { variables, log_readers, updated_at_ms }: HookSettingsDetails) -> Self {
        Self { variables, log_readers, updated_at: updated_at_ms.map(moment) }
    }
}

impl From<HookLimitsDetails> for HookLimits {
    fn from(HookLimitsDetails { limits, large_components, updated_at_ms }: HookLimitsDetails) -> Self {
        let limits = limits.into_iter().map(|(limit, details)| {
            let HookLimitDetails { value, is_default, most } = details;
            (limit.as_str(), HookLimit { value, is_default, most })
        });
        Self { limits: limits.collect(), large_components, updated_at: updated_at_ms.map(moment) }
    }
}
