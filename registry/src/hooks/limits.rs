//! What hooks of a tenant may take: what the operator says for the tenant, within the ceiling of the settings, and else what the
//! settings say. Gateways take the least of what was said here and of their own ceiling.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use souk_protocol::hooks::HookLimit;
use souk_protocol::{Principal, TenantId};

use super::intake::{HookIntake, HookTerms, OfferedLimit};
use crate::Registry;
use crate::audit::{self, Act, Actor};
use crate::db::{HookLimitsRow, begin_write_of, hook_limits, tenants};
use crate::error::{Finding, RegistryError};
use crate::rights::{Action, require};
use crate::tenants::check_not_erased;

/// What is to change, unchecked.
#[derive(Debug, Default)]
pub(crate) struct HookLimitsRequest {
    /// By name: a number, or null for what the settings say. What is not in here stays.
    pub(crate) limits: BTreeMap<String, Value>,
    /// Whether the tenant may publish large components; `None` for as it is.
    pub(crate) large_components: Option<bool>,
}

/// A tenant's limits, all of them.
#[derive(Debug)]
pub(crate) struct HookLimitsDetails {
    pub(crate) limits: Vec<(HookLimit, HookLimitDetails)>,
    pub(crate) large_components: bool,
    /// `None` if nothing was ever said.
    pub(crate) updated_at_ms: Option<i64>,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HookLimitDetails {
    pub(crate) value: u64,
    /// Whether it is what the settings say.
    pub(crate) is_default: bool,
    /// Most that can be said.
    pub(crate) most: u64,
}

impl Registry {
    /// What hooks of a tenant may take; `tenant` is a name, `None` means the caller's own.
    pub(crate) async fn hook_limits(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
    ) -> Result<HookLimitsDetails, RegistryError> {
        require(principal, Action::GetHookLimits)?;
        let tenant = self.tenant_meant(principal, tenant).await?;
        let row = hook_limits::of(&self.db, &tenant).await?;
        self.shown_hook_limits(&tenant, &row).await
    }

    /// Changes them. For operators.
    pub(crate) async fn set_hook_limits(
        &self,
        principal: &Principal,
        tenant: &str,
        request: HookLimitsRequest,
    ) -> Result<HookLimitsDetails, RegistryError> {
        require(principal, Action::SetHookLimits)?;
        let changes = check(&*self.hook_intake()?, request.limits)?;
        let tenant = self.tenant_named(tenant).await?.tenant();
        let transaction = begin_write_of(&self.db, &tenant).await?;
        self.require_still(&transaction, principal, Action::SetHookLimits).await?;
        check_not_erased(&transaction, &tenant).await?;
        let before = hook_limits::of(&transaction, &tenant).await?;
        let mut limits = before.limits();
        let mut told = Map::new();
        for (limit, value) in changes {
            let from = limits.get(limit);
            if from != value {
                told.insert(limit.as_str().to_owned(), json!({ "from": from, "to": value }));
                limits.set(limit, value);
            }
        }
        let large_components = request.large_components.map_or(before.large_components, i64::from);
        let row = HookLimitsRow {
            limits: serde_json::to_string(&limits).expect("numbers are JSON"),
            large_components,
            ..before.clone()
        };
        if !told.is_empty() || large_components != before.large_components {
            hook_limits::put(&transaction, row).await?;
            let details = json!({ "limits": told, "large_components": large_components != 0 });
            let id = tenant.as_str();
            let act = Act { tenant_id: id, action: "hook_limits.set", subject: id, details };
            audit::append(&transaction, Actor::of(principal), act).await?;
            tracing::info!(tenant.id = id, by.key = %principal.key, "Set what hooks of the tenant {id} may take");
        }
        let now = hook_limits::of(&transaction, &tenant).await?;
        transaction.commit().await?;
        self.shown_hook_limits(&tenant, &now).await
    }

    /// What a tenant may publish now.
    pub(crate) async fn hook_terms(&self, tenant: &TenantId, name: &str) -> Result<HookTerms, RegistryError> {
        let row = hook_limits::of(&self.db, tenant).await?;
        Ok(HookTerms { is_large: self.may_publish_large(&row, name), limits: row.limits() })
    }

    async fn shown_hook_limits(
        &self,
        tenant: &TenantId,
        row: &HookLimitsRow,
    ) -> Result<HookLimitsDetails, RegistryError> {
        let intake = self.hook_intake()?;
        let said = row.limits();
        let name = tenants::of_id(&self.db, tenant).await?.map(|tenant| tenant.name).unwrap_or_default();
        let of = |limit: HookLimit| {
            let OfferedLimit { usual, most, .. } = intake.offered(limit);
            let own = said.get(limit);
            // A ceiling that was lowered since binds.
            HookLimitDetails { value: own.unwrap_or(usual).min(most), is_default: own.is_none(), most }
        };
        Ok(HookLimitsDetails {
            limits: HookLimit::ALL.map(|limit| (limit, of(limit))).to_vec(),
            large_components: self.may_publish_large(row, &name),
            updated_at_ms: Some(row.updated_at_ms).filter(|at_ms| *at_ms > 0),
        })
    }

    fn may_publish_large(&self, row: &HookLimitsRow, name: &str) -> bool {
        row.large_components != 0 || self.config.settings.hooks.large_for.contains(name)
    }
}

/// What was asked for, by limit; `None` takes one back.
fn check(
    intake: &dyn HookIntake,
    request: BTreeMap<String, Value>,
) -> Result<Vec<(HookLimit, Option<u64>)>, RegistryError> {
    let (mut changes, mut findings) = (Vec::new(), Vec::new());
    for (name, given) in request {
        let shown = |text: &str| text.chars().take(80).collect::<String>();
        let field = format!("limits.{}", shown(&name));
        let Some(limit) = HookLimit::named(&name) else {
            let names = HookLimit::ALL.map(HookLimit::as_str).join(", ");
            findings.push(Finding::field(field, format!("there is no such limit; there are {names}")));
            continue;
        };
        let OfferedLimit { least, most, .. } = intake.offered(limit);
        match given.as_u64().filter(|value| (least..=most).contains(value)) {
            Some(value) => changes.push((limit, Some(value))),
            None if given.is_null() => changes.push((limit, None)),
            None => {
                let message = format!("a whole number from {least} to {most}; given {}", shown(&given.to_string()));
                findings.push(Finding::field(field, message));
            }
        }
    }
    RegistryError::unless_valid(findings)?;
    Ok(changes)
}
