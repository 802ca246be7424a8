//! Limits as they are shown to who manages a tenant.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::ConnectionTrait;
use souk_protocol::limits::{LevelLimits, PeriodKey, Policy, Subject};
use souk_protocol::{Principal, TenantId, TotalKey};

use super::levels::{levels_seen, subject_below};
use super::lookup::levels_of;
use super::tree::tree_of;
use crate::Registry;
use crate::db::limits::subject_of;
use crate::db::{limits, now_ms, tenants};
use crate::error::RegistryError;
use crate::rights::{Action, require};
use crate::slice::{Slice, wrong_cursor};
use crate::usage;

/// The limits of one subject.
pub(crate) struct SubjectLimits {
    pub(crate) level: LevelLimits,
    /// What is used in this day and month of what is counted by them.
    pub(crate) used: BTreeMap<Policy, u64>,
    /// What its tenant is called; of a tenant alone.
    pub(crate) name: Option<String>,
    /// Those that are not its own, but the installation's defaults.
    pub(crate) defaults: BTreeSet<Policy>,
    /// What is a tenant's alone.
    pub(crate) tenant: Option<OfTenant>,
}

/// What is a tenant's alone beside its limits, as it holds.
pub(crate) struct OfTenant {
    pub(crate) gate_weight: u32,
    pub(crate) output_ceiling: Option<u32>,
    pub(crate) keeps_answers: bool,
}

impl Registry {
    /// The limits of a tenant, then of those below it that have any: teams, members, keys, each by id. A sort key is a level
    /// and an id with `/` between. `tenant` is a name; `None` means the caller's own.
    pub(crate) async fn list_limits(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
        slice: Slice,
    ) -> Result<Vec<SubjectLimits>, RegistryError> {
        require(principal, Action::ListLimits)?;
        let tenant = self.tenant_meant(principal, tenant).await?;
        let mut limit = slice.with_one_more();
        let mut subjects = Vec::new();
        let after = match &slice.after {
            None => {
                subjects.push(Subject::Tenant(tenant.clone()));
                limit -= 1;
                None
            }
            Some(key) => Some(key.split_once('/').ok_or_else(wrong_cursor)?),
        };
        for (level, id) in limits::subjects_below(&self.db, &tenant, after, limit).await? {
            subjects.extend(subject_of(&tenant, &level, &id));
        }
        let levels = levels_of(&self.db, &self.config.limits, &subjects).await?;
        self.shown(&self.db, &tenant, levels).await
    }

    /// The limits of a team, a member or a key.
    pub(crate) async fn get_limits(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
        (level, id): (&str, &str),
    ) -> Result<SubjectLimits, RegistryError> {
        require(principal, Action::GetLimits)?;
        let tenant = self.tenant_meant(principal, tenant).await?;
        let subject = subject_below(&tenant, level, id)?;
        levels_seen(&self.db, principal, &tenant, &subject).await?;
        self.limits_in(&self.db, &tenant, &subject).await
    }

    /// The limits of one subject as they are in a transaction.
    pub(super) async fn limits_in(
        &self,
        connection: &impl ConnectionTrait,
        tenant: &TenantId,
        subject: &Subject,
    ) -> Result<SubjectLimits, RegistryError> {
        let levels = levels_of(connection, &self.config.limits, std::slice::from_ref(subject)).await?;
        let shown = self.shown(connection, tenant, levels).await?;
        Ok(shown.into_iter().next().expect("there is one for each subject"))
    }

    async fn shown(
        &self,
        connection: &impl ConnectionTrait,
        tenant: &TenantId,
        levels: Vec<LevelLimits>,
    ) -> Result<Vec<SubjectLimits>, RegistryError> {
        let now_ms = u64::try_from(now_ms()).unwrap_or_default();
        let key = |subject: &Subject, policy: Policy| {
            let period = PeriodKey::of(policy, now_ms)?;
            Some(TotalKey { subject: subject.clone(), period, unit: policy.unit() })
        };
        let of_level = |level: &LevelLimits| {
            let keys = level.limits.keys().filter_map(|policy| key(&level.subject, *policy));
            keys.collect::<Vec<_>>()
        };
        let keys: BTreeSet<_> = levels.iter().flat_map(of_level).collect();
        let totals = usage::totals_in(connection, &keys.into_iter().collect::<Vec<_>>()).await?;
        let used: BTreeMap<_, _> = totals.into_iter().map(|total| (total.key, total.amount)).collect();
        let mut all = Vec::with_capacity(levels.len());
        for level in levels {
            let amount = |policy: &Policy| Some((*policy, *used.get(&key(&level.subject, *policy)?)?));
            let used = level.limits.keys().filter_map(amount).collect();
            all.push(self.of_level(connection, tenant, level, used).await?);
        }
        Ok(all)
    }

    async fn of_level(
        &self,
        connection: &impl ConnectionTrait,
        tenant: &TenantId,
        level: LevelLimits,
        used: BTreeMap<Policy, u64>,
    ) -> Result<SubjectLimits, RegistryError> {
        let mut shown = SubjectLimits { name: None, defaults: BTreeSet::new(), tenant: None, used, level };
        if matches!(shown.level.subject, Subject::Tenant(_)) {
            let rows = limits::of_subjects(connection, std::slice::from_ref(&shown.level.subject)).await?;
            let own: BTreeSet<_> = rows.iter().filter_map(|row| Some(row.limit()?.0)).collect();
            shown.defaults = shown.level.limits.keys().copied().filter(|policy| !own.contains(policy)).collect();
            let tree = tree_of(connection, &self.config.limits, tenant, &[]).await?;
            shown.tenant = Some(OfTenant {
                gate_weight: tree.gate_weight,
                output_ceiling: tree.output_ceiling,
                keeps_answers: tree.keeps_answers,
            });
            shown.name = tenants::of_id(connection, tenant).await?.map(|row| row.name);
        }
        Ok(shown)
    }
}

impl SubjectLimits {
    /// What a list is sorted by.
    pub(crate) fn sort_key(&self) -> String {
        format!("{}/{}", self.level.subject.level(), self.level.subject.id())
    }
}
