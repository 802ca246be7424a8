//! Steps of pipelines as they are kept, and what they are to gateways.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use sea_orm::{ConnectionTrait, DbErr};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use souk_protocol::hooks::{OnFailure, Part, Share, Standing, Step};
use souk_protocol::{HookName, HookVersionId, TenantId};

use super::intake::HookReport;
use crate::db::{HookRow, HookVersionRow, hook_versions, hooks};
use crate::words::VersionState;

/// A step, pinned to a version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StoredStep {
    /// As it was named, for who reads it.
    pub(crate) hook: HookName,
    pub(crate) hook_id: String,
    pub(crate) version: semver::Version,
    pub(crate) version_id: String,
    /// An object.
    pub(crate) config: Value,
    pub(crate) on_failure: OnFailure,
    pub(crate) share: Share,
}

/// Steps as a column has them.
pub(super) fn to_column(steps: &[StoredStep]) -> String {
    serde_json::to_string(steps).expect("steps have only text keys")
}

/// The steps of a column.
///
/// # Errors
/// For one that a newer program wrote and this one cannot read: without them a hook that a tenant relies on would be left out.
pub(super) fn from_column(text: &str) -> Result<Vec<StoredStep>, DbErr> {
    serde_json::from_str(text).map_err(|error| DbErr::Custom(format!("a pipeline cannot be read: {error}")))
}

/// What is known of the versions that steps name.
pub(super) struct Known {
    versions: HashMap<String, HookVersionRow>,
    hooks: HashMap<String, HookRow>,
    /// The ids of hooks that the tenant may attach.
    seen: HashSet<String>,
}

impl Known {
    /// Looks up what the steps of a tenant name.
    pub(super) async fn of<'a>(
        connection: &impl ConnectionTrait,
        tenant: &TenantId,
        steps: impl Iterator<Item = &'a StoredStep> + Clone,
    ) -> Result<Self, DbErr> {
        let version_ids: BTreeSet<_> = steps.clone().map(|step| step.version_id.as_str()).collect();
        let hook_ids: BTreeSet<_> = steps.map(|step| step.hook_id.as_str()).collect();
        if hook_ids.is_empty() {
            return Ok(Self { versions: HashMap::new(), hooks: HashMap::new(), seen: HashSet::new() });
        }
        let versions = hook_versions::by_ids(connection, version_ids).await?;
        let rows = hooks::by_ids(connection, hook_ids.iter().copied()).await?;
        let seen = hooks::seen_of(connection, tenant, hook_ids).await?;
        Ok(Self {
            versions: versions.into_iter().map(|row| (row.id.clone(), row)).collect(),
            hooks: rows.into_iter().map(|row| (row.id.clone(), row)).collect(),
            seen: seen.into_iter().map(|row| row.id).collect(),
        })
    }

    /// Whether the hook of a step may run now.
    pub(super) fn standing(&self, step: &StoredStep) -> Standing {
        match self.versions.get(&step.version_id).map(HookVersionRow::state) {
            Some(VersionState::TakenDown) => Standing::TakenDown,
            Some(VersionState::Ready | VersionState::Yanked) if self.seen.contains(&step.hook_id) => Standing::Callable,
            _ => Standing::NotGranted,
        }
    }

    /// A step as gateways have it; `None` for one whose hook has no row, which cannot be.
    pub(super) fn step(&self, step: &StoredStep) -> Option<Step> {
        let (version, hook) = (self.versions.get(&step.version_id)?, self.hooks.get(&step.hook_id)?);
        let report = version.report.as_deref().and_then(|report| serde_json::from_str::<HookReport>(report).ok());
        // After an erasure nothing is known of what it exports; it may not run, and that must not be passed by.
        let exports = |part: &Part| {
            report.as_ref().is_none_or(|report| report.exports.iter().any(|export| export == part.as_str()))
        };
        Some(Step {
            hook: hooks::name_of(hook),
            version: version.number(),
            id: HookVersionId::from_stored(&version.id),
            digest: version.digest.parse().ok()?,
            owner: hook.tenant(),
            parts: Part::ALL.into_iter().filter(exports).collect(),
            config: Arc::from(step.config.to_string()),
            on_failure: step.on_failure,
            share: step.share,
            standing: self.standing(step),
        })
    }

    pub(super) fn steps(&self, steps: &[StoredStep]) -> Vec<Step> {
        steps.iter().filter_map(|step| self.step(step)).collect()
    }
}

/// Variables as a column has them.
pub(super) fn variables(text: &str) -> BTreeMap<String, String> {
    serde_json::from_str(text).unwrap_or_default()
}
