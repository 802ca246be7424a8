//! Setting limits, and what is a tenant's alone beside them.

use std::collections::BTreeMap;

use sea_orm::{DatabaseTransaction, DbErr};
use serde_json::{Map, Value, json};
use souk_protocol::limits::Subject;
use souk_protocol::{Mode, Principal, TenantId};

use super::levels::{levels_seen, subject_below};
use super::lookup::levels_of;
use super::request::{Changes, LimitsRequest, check_ceiling, check_limits, check_weight};
use super::shown::SubjectLimits;
use crate::Registry;
use crate::audit::{self, Act, Actor};
use crate::db::limits::mode_to_column;
use crate::db::{LimitRow, TenantLimitsRow, begin_write_of, limits, tenant_limits};
use crate::error::RegistryError;
use crate::rights::{Action, require};
use crate::tenants::check_not_erased;

/// What a tenant's answers may be, as a caller asks for it; what is `None` stays.
#[derive(Debug, Default)]
pub(crate) struct AnswersRequest {
    /// A number, or null for the installation's default.
    pub(crate) output_ceiling: Option<Value>,
    pub(crate) keeps_answers: Option<bool>,
}

impl Registry {
    /// Changes limits of a team, a member or a key; those of the tenant are the operator's to set. `tenant` is a name; `None`
    /// means the caller's own.
    pub(crate) async fn set_limits(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
        (level, id): (&str, &str),
        request: LimitsRequest,
    ) -> Result<SubjectLimits, RegistryError> {
        require(principal, Action::SetLimits)?;
        let changes = check_limits(request)?;
        let tenant = self.tenant_meant(principal, tenant).await?;
        let subject = subject_below(&tenant, level, id)?;
        let transaction = begin_write_of(&self.db, &tenant).await?;
        let now = self.require_still(&transaction, principal, Action::SetLimits).await?;
        check_not_erased(&transaction, &tenant).await?;
        let levels = levels_seen(&transaction, &now, &tenant, &subject).await?;
        self.check_within(&transaction, &levels, &changes).await?;
        let told = write(&transaction, &tenant, &subject, &changes).await?;
        note_limits(&transaction, principal, &tenant, &subject, told).await?;
        let set = self.limits_in(&transaction, &tenant, &subject).await?;
        transaction.commit().await?;
        Ok(set)
    }

    /// Changes limits of a tenant, and what it weighs at gates. For operators.
    pub(crate) async fn set_tenant_limits(
        &self,
        principal: &Principal,
        tenant: &str,
        request: LimitsRequest,
        gate_weight: Option<&Value>,
    ) -> Result<SubjectLimits, RegistryError> {
        require(principal, Action::SetTenantLimits)?;
        let (changes, gate_weight) = (check_limits(request)?, check_weight(gate_weight)?);
        let tenant = self.tenant_named(tenant).await?.tenant();
        let subject = Subject::Tenant(tenant.clone());
        let transaction = begin_write_of(&self.db, &tenant).await?;
        self.require_still(&transaction, principal, Action::SetTenantLimits).await?;
        check_not_erased(&transaction, &tenant).await?;
        let mut told = write(&transaction, &tenant, &subject, &changes).await?;
        let before = tenant_limits::of(&transaction, &tenant).await?;
        if let Some(gate_weight) = gate_weight.filter(|weight| *weight != before.gate_weight) {
            told.insert("gate_weight".to_owned(), json!({ "from": before.gate_weight, "to": gate_weight }));
            tenant_limits::put(&transaction, TenantLimitsRow { gate_weight, ..before }).await?;
        }
        note_limits(&transaction, principal, &tenant, &subject, told).await?;
        let set = self.limits_in(&transaction, &tenant, &subject).await?;
        transaction.commit().await?;
        Ok(set)
    }

    /// Changes what a tenant's answers may be.
    pub(crate) async fn set_answers(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
        request: AnswersRequest,
    ) -> Result<SubjectLimits, RegistryError> {
        require(principal, Action::SetAnswers)?;
        let ceiling = request.output_ceiling.as_ref().map(check_ceiling).transpose()?;
        let tenant = self.tenant_meant(principal, tenant).await?;
        let transaction = begin_write_of(&self.db, &tenant).await?;
        self.require_still(&transaction, principal, Action::SetAnswers).await?;
        check_not_erased(&transaction, &tenant).await?;
        let before = tenant_limits::of(&transaction, &tenant).await?;
        let row = TenantLimitsRow {
            output_ceiling: ceiling.unwrap_or(before.output_ceiling),
            keeps_answers: request.keeps_answers.map_or(before.keeps_answers, i64::from),
            ..before.clone()
        };
        if row != before {
            let details = json!({ "output_ceiling": row.output_ceiling, "keeps_answers": row.keeps_answers != 0 });
            tenant_limits::put(&transaction, row).await?;
            note(&transaction, principal, &tenant, "limits.answers_set", tenant.as_str(), details).await?;
        }
        let set = self.limits_in(&transaction, &tenant, &Subject::Tenant(tenant.clone())).await?;
        transaction.commit().await?;
        Ok(set)
    }

    /// Ends a call that would set a limit beyond the one of a level above, which binds in any case; one in shadow mode binds nobody.
    async fn check_within(
        &self,
        transaction: &DatabaseTransaction,
        levels: &[Subject],
        changes: &Changes,
    ) -> Result<(), RegistryError> {
        let Some((own, above)) = levels.split_last() else { return Ok(()) };
        for level in levels_of(transaction, &self.config.limits, above).await? {
            for (policy, limit) in level.limits.iter().filter(|(_, limit)| limit.mode == Mode::Enforce) {
                if let Some(Some(asked)) = changes.get(policy)
                    && asked.value > limit.value
                {
                    return Err(RegistryError::BeyondLevelAbove {
                        policy: *policy,
                        level: own.level(),
                        given: asked.value,
                        above: level.subject.level(),
                        limit: limit.value,
                    });
                }
            }
        }
        Ok(())
    }
}

/// Writes what changes; answers it, by what is limited.
async fn write(
    transaction: &DatabaseTransaction,
    tenant: &TenantId,
    subject: &Subject,
    changes: &Changes,
) -> Result<Map<String, Value>, DbErr> {
    let rows = limits::of_subjects(transaction, std::slice::from_ref(subject)).await?;
    let own = rows.iter().filter(|row| row.subject().as_ref() == Some(subject));
    let before: BTreeMap<_, _> = own.filter_map(LimitRow::limit).collect();
    let mut told = Map::new();
    for (policy, limit) in changes {
        if before.get(policy).copied() == *limit {
            continue;
        }
        match limit {
            Some(limit) => limits::put(transaction, LimitRow::of(tenant, subject, *policy, *limit)).await?,
            None => limits::delete(transaction, tenant, subject, *policy).await?,
        }
        let from = before.get(policy).map(|limit| limit.value);
        let change = json!({
            "from": from, "to": limit.map(|limit| limit.value), "soft": limit.and_then(|limit| limit.soft),
            "mode": limit.map(|limit| mode_to_column(limit.mode)),
        });
        told.insert(policy.as_str().to_owned(), change);
    }
    Ok(told)
}

/// Appends what was changed to the tenant's chain, if anything was.
async fn note_limits(
    transaction: &DatabaseTransaction,
    principal: &Principal,
    tenant: &TenantId,
    subject: &Subject,
    told: Map<String, Value>,
) -> Result<(), RegistryError> {
    if told.is_empty() {
        return Ok(());
    }
    let (level, id) = (subject.level(), subject.id());
    let details = json!({ "level": level, "limits": told });
    note(transaction, principal, tenant, "limits.set", id, details).await?;
    tracing::info!(tenant.id = %tenant, level, subject = id, by.key = %principal.key, "Set limits of the {level} {id}");
    Ok(())
}

async fn note(
    transaction: &DatabaseTransaction,
    principal: &Principal,
    tenant: &TenantId,
    action: &'static str,
    subject: &str,
    details: Value,
) -> Result<(), RegistryError> {
    let act = Act { tenant_id: tenant.as_str(), action, subject, details };
    Ok(audit::append(transaction, Actor::of(principal), act).await?)
}
