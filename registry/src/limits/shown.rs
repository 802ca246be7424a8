//! Limits as they are shown to who manages a tenant.

use std::collections::BTreeSet;

use sea_orm::ConnectionTrait;
use souk_protocol::limits::{LevelLimits, Policy, Subject};
use souk_protocol::{Principal, TenantId};

use super::levels::{levels_seen, subject_below};
use super::lookup::levels_of;
use super::tree::tree_of;
use crate::Registry;
use crate::db::limits::subject_of;
use crate::db::{limits, tenants};
use crate::error::RegistryError;
use crate::rights::{Action, require};
use crate::slice::{Slice, wrong_cursor};

/// The limits of one subject.
pub(crate) struct SubjectLimits {
    pub(crate) level: LevelLimits,
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
        let mut shown = Vec::new();
        for level in levels_of(&self.db, &self.config.limits, &subjects).await? {
            shown.push(self.shown(&self.db, &tenant, level).await?);
        }
        Ok(shown)
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
        let none = || LevelLimits { subject: subject.clone(), limits: Default::default() };
        self.shown(connection, tenant, levels.into_iter().next().unwrap_or_else(none)).await
    }

    async fn shown(
        &self,
        connection: &impl ConnectionTrait,
        tenant: &TenantId,
        level: LevelLimits,
    ) -> Result<SubjectLimits, RegistryError> {
        let mut shown = SubjectLimits { name: None, defaults: BTreeSet::new(), tenant: None, level };
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
