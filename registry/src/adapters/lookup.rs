//! Finding rows for a caller. Every lookup takes the principal, so that a query cannot forget whose it is.

use sea_orm::ConnectionTrait;
use souk_protocol::Principal;

use crate::Registry;
use crate::db::{AdapterRow, VersionRow, adapters, versions};
use crate::error::RegistryError;

impl Registry {
    /// The adapter `owner/name`, if the caller may see it.
    pub(crate) async fn visible_adapter(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
    ) -> Result<AdapterRow, RegistryError> {
        let found = adapters::visible(&self.db, principal.tenant.as_str(), owner, name).await?;
        found.ok_or_else(|| adapter_not_found(owner, name))
    }

    /// The adapter `owner/name`, if it is the caller's own. Another tenant's is hidden when private and refused when
    /// public.
    pub(crate) async fn owned_adapter(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
    ) -> Result<AdapterRow, RegistryError> {
        let adapter = self.visible_adapter(principal, owner, name).await?;
        if adapter.tenant_id == principal.tenant.as_str() {
            return Ok(adapter);
        }
        Err(RegistryError::NotOwner { name: format!("{owner}/{name}"), owner: adapter.owner })
    }

    /// The adapter `owner/name`, whoever may see it. For the operator's own actions alone.
    pub(crate) async fn any_adapter(&self, owner: &str, name: &str) -> Result<AdapterRow, RegistryError> {
        let found = adapters::live(&self.db, owner, name).await?;
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
    let name = || format!("{}/{}@{number}", adapter.owner, adapter.name);
    found.ok_or_else(|| RegistryError::NotFound { what: "version", name: name() })
}

pub(crate) fn adapter_not_found(owner: &str, name: &str) -> RegistryError {
    RegistryError::NotFound { what: "adapter", name: format!("{owner}/{name}") }
}
