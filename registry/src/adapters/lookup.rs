//! Finding rows for a caller. Every lookup takes the principal, so that a query cannot forget whose it is.

use sea_orm::ConnectionTrait;
use souk_protocol::Principal;

use crate::Registry;
use crate::db::adapters::Seen;
use crate::db::{AdapterRow, VersionRow, adapters, versions};
use crate::error::RegistryError;
use crate::rights::{Action, Reach, require};

impl Registry {
    /// The adapter `owner/name`, if the caller may do `action` with it. The scope is looked at first, then whose it is: what
    /// the caller's tenant may not see does not exist, and of what it sees others' are refused that only an owner may
    /// change, and gated ones that it was not granted where they have to be callable.
    pub(crate) async fn adapter_for(
        &self,
        principal: &Principal,
        action: Action,
        owner: &str,
        name: &str,
    ) -> Result<AdapterRow, RegistryError> {
        let reach = require(principal, action)?;
        if reach == Reach::Any {
            let found = adapters::ever(&self.db, owner, name).await?;
            return found.ok_or_else(|| adapter_not_found(owner, name));
        }
        let seen = self.seen_for(principal, action, owner, name).await?;
        if reach == Reach::Own && seen.row.tenant_id != principal.tenant.as_str() {
            return Err(RegistryError::NotOwner { name: seen.row.full_name(), owner: seen.row.owner });
        }
        if reach == Reach::Callable && !seen.is_callable() {
            return Err(RegistryError::AccessNeeded(seen.row.full_name()));
        }
        Ok(seen.row)
    }

    /// The same for what it takes to see it alone.
    pub(crate) async fn seen_for(
        &self,
        principal: &Principal,
        action: Action,
        owner: &str,
        name: &str,
    ) -> Result<Seen, RegistryError> {
        require(principal, action)?;
        let found = adapters::seen_by(&self.db, &principal.tenant, owner, name).await?;
        found.ok_or_else(|| adapter_not_found(owner, name))
    }
}

/// The version `number` of an adapter that the caller may see, unless it was deleted.
pub(crate) async fn existing_version(
    connection: &impl ConnectionTrait,
    adapter: &AdapterRow,
    number: &str,
) -> Result<VersionRow, RegistryError> {
    let found = versions::numbered(connection, &adapter.id, number).await?;
    found.ok_or_else(|| version_not_found(adapter, number))
}

pub(crate) fn version_not_found(adapter: &AdapterRow, number: &str) -> RegistryError {
    RegistryError::NotFound { what: "version", name: format!("{}/{}@{number}", adapter.owner, adapter.name) }
}

pub(crate) fn adapter_not_found(owner: &str, name: &str) -> RegistryError {
    RegistryError::NotFound { what: "adapter", name: format!("{owner}/{name}") }
}
