//! What a tenant's hooks may read of it, and who reads what hooks say in its requests.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use souk_protocol::hooks::{MAX_VARIABLE_BYTES, MAX_VARIABLES};
use souk_protocol::{Principal, TenantId};

use super::steps::variables;
use crate::Registry;
use crate::audit::{self, Act, Actor};
use crate::db::{begin_write_of, hook_settings, now_ms, tenants};
use crate::error::{Finding, RegistryError};
use crate::rights::{Action, require};

/// Longest name of a variable.
const MAX_NAME_CHARS: usize = 64;
/// Most tenants that may read what their hooks say.
const MAX_LOG_READERS: usize = 100;

/// Settings as a caller wants them, unchecked.
#[derive(Debug, Default)]
pub(crate) struct NewHookSettings {
    pub(crate) variables: BTreeMap<String, String>,
    /// Tenants' names.
    pub(crate) log_readers: Vec<String>,
}

/// A tenant's settings.
#[derive(Debug, Default)]
pub(crate) struct HookSettingsDetails {
    pub(crate) variables: BTreeMap<String, String>,
    /// Tenants' names, sorted.
    pub(crate) log_readers: Vec<String>,
    /// `None` if nothing was ever set.
    pub(crate) updated_at_ms: Option<i64>,
}

impl Registry {
    /// The settings of the caller's tenant.
    pub(crate) async fn hook_settings(&self, principal: &Principal) -> Result<HookSettingsDetails, RegistryError> {
        require(principal, Action::GetHookSettings)?;
        self.settings_of_hooks(principal).await
    }

    /// Sets them, in the place of those before.
    pub(crate) async fn set_hook_settings(
        &self,
        principal: &Principal,
        new: NewHookSettings,
    ) -> Result<HookSettingsDetails, RegistryError> {
        require(principal, Action::SetHookSettings)?;
        RegistryError::unless_valid(new.findings())?;
        let mut readers = BTreeSet::new();
        let mut findings = Vec::new();
        for (index, name) in new.log_readers.iter().enumerate() {
            match self.tenant_named(name).await {
                Ok(tenant) => _ = readers.insert(TenantId::from_stored(tenant.id)),
                Err(RegistryError::NotFound { .. }) => {
                    let message =
                        format!("there is no tenant of this name, given {}", name.chars().take(80).collect::<String>());
                    findings.push(Finding::field(format!("log_readers[{index}]"), message));
                }
                Err(error) => return Err(error),
            }
        }
        RegistryError::unless_valid(findings)?;
        let row = hook_settings::Model {
            tenant_id: principal.tenant.to_string(),
            variables: serde_json::to_string(&new.variables).expect("texts are JSON"),
            log_readers: serde_json::to_string(&readers).expect("ids are JSON"),
            updated_at_ms: now_ms(),
        };
        let transaction = begin_write_of(&self.db, &principal.tenant).await?;
        let tenant_id = row.tenant_id.clone();
        hook_settings::put(&transaction, row).await?;
        // Names, and no values: those may say something of persons.
        let details = json!({ "num_variables": new.variables.len(), "log_readers": readers });
        let act = Act { tenant_id: &tenant_id, action: "hook_settings.set", subject: &tenant_id, details };
        audit::append(&transaction, Actor::of(principal), act).await?;
        transaction.commit().await?;
        self.settings_of_hooks(principal).await
    }

    async fn settings_of_hooks(&self, principal: &Principal) -> Result<HookSettingsDetails, RegistryError> {
        let Some(row) = hook_settings::of(&self.db, &principal.tenant).await? else {
            return Ok(HookSettingsDetails::default());
        };
        let ids: BTreeSet<TenantId> = serde_json::from_str(&row.log_readers).unwrap_or_default();
        let readers = tenants::by_ids(&self.db, ids.iter().map(TenantId::as_str)).await?;
        let mut log_readers: Vec<_> = readers.into_iter().map(|tenant| tenant.name).collect();
        log_readers.sort_unstable();
        let variables = variables(&row.variables);
        Ok(HookSettingsDetails { variables, log_readers, updated_at_ms: Some(row.updated_at_ms) })
    }
}

impl NewHookSettings {
    fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.variables.len() > MAX_VARIABLES {
            let message = format!("at most {MAX_VARIABLES}, given {}", self.variables.len());
            findings.push(Finding::field("variables", message));
        }
        for (name, value) in &self.variables {
            let shown: String = name.chars().take(80).collect();
            let is_name = (1..=MAX_NAME_CHARS).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
            if !is_name {
                let message = format!("a name has 1 to {MAX_NAME_CHARS} of a-z, A-Z, 0-9, `_`, `-`, `.`");
                findings.push(Finding::field(format!("variables.{shown}"), message));
            }
            if value.len() > MAX_VARIABLE_BYTES {
                let message = format!("at most {MAX_VARIABLE_BYTES} bytes, given {}", value.len());
                findings.push(Finding::field(format!("variables.{shown}"), message));
            }
        }
        if self.log_readers.len() > MAX_LOG_READERS {
            let message = format!("at most {MAX_LOG_READERS}, given {}", self.log_readers.len());
            findings.push(Finding::field("log_readers", message));
        }
        findings
    }
}
