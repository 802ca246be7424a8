//! Finding rows for a caller. Every lookup takes the principal, so that a query cannot forget whose it is.

use sea_orm::ConnectionTrait;
use souk_protocol::Principal;

use crate::Registry;
use crate::db::{HookRow, HookVersionRow, hook_versions, hooks};
use crate::error::RegistryError;
use crate::rights::{Action, Reach, require};

impl Registry {
    /// The hook `owner/name`, if the caller may do `action` with it. The scope is looked at first, then whose it is: what the
    /// caller's tenant may not see does not exist, and of what it sees others' are refused that only an owner may change.
    pub(crate) async fn hook_for(
        &self,
        principal: &Principal,
        action: Action,
        owner: &str,
        name: &str,
    ) -> Result<HookRow, RegistryError> {
        let reach = require(principal, action)?;
        let not_found = || hook_not_found(owner, name);
        if reach == Reach::AnyHook {
            return hooks::ever(&self.db, owner, name).await?.ok_or_else(not_found);
        }
        let hook = hooks::seen_by(&self.db, &principal.tenant, owner, name).await?.ok_or_else(not_found)?;
        if reach == Reach::OwnHooks && hook.tenant_id != principal.tenant.as_str() {
            return Err(RegistryError::NotOwner { name: hook.full_name(), owner: hook.owner });
        }
        Ok(hook)
    }
}

/// The hook as it is now. Ends a call for one that was deleted meanwhile.
pub(super) async fn still_there(connection: &impl ConnectionTrait, hook: &HookRow) -> Result<HookRow, RegistryError> {
    let found = hooks::live(connection, &hook.owner, &hook.name).await?;
    found.ok_or_else(|| hook_not_found(&hook.owner, &hook.name))
}

/// The version `number` of a hook, unless it was deleted.
pub(super) async fn existing_version(
    connection: &impl ConnectionTrait,
    hook: &HookRow,
    number: &str,
) -> Result<HookVersionRow, RegistryError> {
    let found = hook_versions::numbered(connection, &hook.id, number).await?;
    found.ok_or_else(|| version_not_found(hook, number))
}

pub(super) fn version_not_found(hook: &HookRow, number: &str) -> RegistryError {
    let number: String = number.chars().take(80).collect();
    RegistryError::NotFound { what: "version", name: format!("{}@{number}", hook.full_name()) }
}

pub(crate) fn hook_not_found(owner: &str, name: &str) -> RegistryError {
    let shown = |text: &str| text.chars().take(80).collect::<String>();
    RegistryError::NotFound { what: "hook", name: format!("{}/{}", shown(owner), shown(name)) }
}
