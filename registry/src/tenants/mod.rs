//! Tenants: who owns adapters and keys. The operator makes them.

mod erase;
mod export;

use sea_orm::ConnectionTrait;
use serde::Serialize;
use serde_json::json;
use souk_protocol::reference::check_name_part;
use souk_protocol::{Principal, Scope, TenantId};

use crate::Registry;
use crate::audit::{self, Act, Actor};
use crate::db::{TenantRow, begin_write, is_unique_violation, tenant_erasures, tenants};
use crate::error::{Finding, RegistryError};
use crate::idempotency::Once;
use crate::rights::{Action, require};
use crate::slice::Slice;

impl Registry {
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
        let act = Act { tenant_id: &tenant.id, action: "tenant.created", subject: &tenant.id, details: json!({}) };
        audit::append(&transaction, Actor::of(principal), act).await?;
        once.keep_in(&transaction, || shape(tenant.clone())).await?;
        transaction.commit().await?;
        tracing::info!(tenant.name = name, "Made tenant {name}");
        Ok(tenant)
    }

    /// The tenant that is meant: the caller's own, or for an operator the one named.
    pub(crate) async fn tenant_meant(
        &self,
        principal: &Principal,
        named: Option<&str>,
    ) -> Result<TenantId, RegistryError> {
        match named.filter(|name| *name != principal.tenant_name) {
            None => Ok(principal.tenant.clone()),
            Some(_) if !principal.may(Scope::Admin) => Err(RegistryError::MissingScope(Scope::Admin)),
            Some(name) => Ok(TenantId::from_stored(self.tenant_named(name).await?.id)),
        }
    }

    pub(crate) async fn tenant_named(&self, name: &str) -> Result<TenantRow, RegistryError> {
        let not_found = || RegistryError::NotFound { what: "tenant", name: name.to_owned() };
        tenants::named(&self.db, name).await?.ok_or_else(not_found)
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

/// Ends a call that would let somebody act for a tenant that was erased, or is being erased.
pub(crate) async fn check_not_erased(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
) -> Result<(), RegistryError> {
    if tenant_erasures::has_begun(connection, tenant).await? { Err(RegistryError::TenantErased) } else { Ok(()) }
}
