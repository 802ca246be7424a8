//! Tenants: who owns adapters and keys. The operator makes them.

use serde::Serialize;
use souk_protocol::reference::check_name_part;
use souk_protocol::{Principal, Scope};

use crate::Registry;
use crate::auth::ApiKey;
use crate::db::{TenantRow, begin_write, is_unique_violation, tenants};
use crate::error::{Finding, RegistryError};
use crate::idempotency::Once;
use crate::keys::{NewKey, insert_key, usable_admin_keys};
use crate::rights::{Action, require};
use crate::slice::Slice;

/// The tenant of the installation's operator.
pub const ADMIN_TENANT: &str = "admin";

impl Registry {
    /// Makes sure that somebody can operate the installation: on the first start makes the tenant [`ADMIN_TENANT`]
    /// and a key of it with all scopes, and answers that key for the caller to show once. Later starts answer `None`,
    /// unless no admin key is usable any more; then a new one is made. Of several registries that start at once, one
    /// makes it.
    ///
    /// # Errors
    /// [`RegistryError`] from the database.
    pub async fn bootstrap(&self) -> Result<Option<ApiKey>, RegistryError> {
        let transaction = begin_write(&self.db).await?;
        let admin = match tenants::named(&transaction, ADMIN_TENANT).await? {
            Some(tenant) => tenant,
            None => tenants::insert(&transaction, ADMIN_TENANT).await?,
        };
        if usable_admin_keys(&transaction, &admin.id).await? > 0 {
            return Ok(None);
        }
        let new_key = NewKey {
            tenant_id: admin.id,
            name: "first admin key".to_owned(),
            scopes: Scope::ALL.into_iter().collect(),
            expires_at_ms: None,
            made_by: None,
        };
        let (row, key) = insert_key(&transaction, &self.authenticator, new_key).await?;
        transaction.commit().await?;
        tracing::info!(key.id = row.id, "Made an admin key at the start, since none was usable");
        Ok(Some(key))
    }

    /// Makes a tenant. `shape` makes the answer that is kept for an `Idempotency-Key`.
    pub(crate) async fn create_tenant<A: Serialize>(
        &self,
        principal: &Principal,
        name: &str,
        once: &Once,
        shape: impl FnOnce(TenantRow) -> A,
    ) -> Result<TenantRow, RegistryError> {
        require(principal, Action::CreateTenant)?;
        let finding = check_name_part("name", name).err().map(|error| Finding::field("name", error.to_string()));
        RegistryError::unless_valid(finding.into_iter().collect())?;
        let transaction = begin_write(&self.db).await?;
        let tenant = tenants::insert(&transaction, name).await.map_err(|error| {
            if is_unique_violation(&error) {
                return RegistryError::AlreadyExists { what: "tenant", name: name.to_owned() };
            }
            error.into()
        })?;
        once.keep_in(&transaction, || shape(tenant.clone())).await?;
        transaction.commit().await?;
        tracing::info!(tenant.name = name, "Made tenant {name}");
        Ok(tenant)
    }

    /// Tenants, by name.
    pub(crate) async fn list_tenants(
        &self,
        principal: &Principal,
        slice: Slice,
    ) -> Result<Vec<TenantRow>, RegistryError> {
        require(principal, Action::ListTenants)?;
        let limit = slice.with_one_more();
        Ok(tenants::list(&self.db, slice.after, limit).await?)
    }
}
