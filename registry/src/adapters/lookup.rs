//! Finding rows for a caller. Every lookup takes the principal, so that a query cannot forget whose it is.

use sea_orm::ConnectionTrait;
use souk_protocol::Principal;

use crate::Registry;
use crate::db::{AdapterRow, VersionRow, adapters, versions};
use crate::error::RegistryError;
use crate::rights::{Action, Reach, require};

impl Registry {
    /// The adapter `owner/name`, if the caller may do `action` with it. The scope is looked at first, then whose it is:
    /// another tenant's private one does not exist, and a public one that only its owner may change is refused.
    pub(crate) async fn adapter_for(
        &self,
        principal: &Principal,
        action: Action,
        owner: &str,
        name: &str,
    ) -> Result<AdapterRow, RegistryError> {
        let reach = require(principal, action)?;
        let tenant_id = principal.tenant.as_str();
        let found = match reach {
            Reach::Any => adapters::ever(&self.db, owner, name).await?,
            Reach::Own | Reach::Visible => adapters::visible(&self.db, tenant_id, owner, name).await?,
            Reach::Installation | Reach::Itself | Reach::Person | Reach::Members | Reach::Keys => None,
        };
        let adapter = found.ok_or_else(|| adapter_not_found(owner, name))?;
        if reach == Reach::Own && adapter.tenant_id != tenant_id {
            return Err(RegistryError::NotOwner { name: format!("{owner}/{name}"), owner: adapter.owner });
        }
        Ok(adapter)
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
