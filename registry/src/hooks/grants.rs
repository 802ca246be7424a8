//! Granting a shared hook to tenants.

use serde_json::json;
use souk_protocol::{Principal, TenantId};

use super::lookup::still_there;
use super::rows::note;
use crate::Registry;
use crate::audit::Actor;
use crate::db::hook_grants::Model as GrantRow;
use crate::db::{HookRow, begin_write_of, hook_grants, now_ms, tenants};
use crate::error::{Finding, RegistryError};
use crate::rights::Action;
use crate::slice::Slice;
use crate::tenants::check_not_erased;

/// A grant and whom it is to.
pub(crate) struct HookGrantDetails {
    pub(crate) row: GrantRow,
    /// The tenant's name.
    pub(crate) tenant: String,
}

impl Registry {
    /// To whom a hook was granted, by the tenants' ids.
    pub(crate) async fn list_hook_grants(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        slice: Slice,
    ) -> Result<Vec<HookGrantDetails>, RegistryError> {
        let hook = self.hook_for(principal, Action::ListHookGrants, owner, name).await?;
        let limit = slice.with_one_more();
        let rows = hook_grants::list(&self.db, &hook.id, slice.after, limit).await?;
        let names = tenants::by_ids(&self.db, rows.iter().map(|row| row.tenant_id.as_str())).await?;
        let named = |row: GrantRow| {
            let tenant = names.iter().find(|tenant| tenant.id == row.tenant_id);
            HookGrantDetails { tenant: tenant.map(|tenant| tenant.name.clone()).unwrap_or_default(), row }
        };
        Ok(rows.into_iter().map(named).collect())
    }

    /// Lets a tenant attach a hook while that is shared.
    pub(crate) async fn put_hook_grant(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        tenant: &str,
    ) -> Result<HookGrantDetails, RegistryError> {
        let hook = self.hook_for(principal, Action::PutHookGrant, owner, name).await?;
        let to = self.hook_grantee(&hook, tenant).await?;
        let transaction = begin_write_of(&self.db, &hook.tenant()).await?;
        self.require_still(&transaction, principal, Action::PutHookGrant).await?;
        let hook = still_there(&transaction, &hook).await?;
        check_not_erased(&transaction, &to).await?;
        let tenant = tenant.to_owned();
        if let Some(row) = hook_grants::get(&transaction, &hook.id, to.as_str()).await? {
            return Ok(HookGrantDetails { row, tenant });
        }
        let given = hook_grants::count_of(&transaction, &hook.id).await?;
        RegistryError::unless_fewer(given, self.config.settings.max_grants_per_adapter, |given, limit| {
            let (of, setting) = (format!("`{}`", hook.full_name()), "registry.max_grants_per_adapter");
            RegistryError::TooMany { what: "grants", of, setting, limit, given, remedy: "withdraw one first" }
        })?;
        let row = GrantRow {
            hook_id: hook.id.clone(),
            tenant_id: to.to_string(),
            owner: hook.owner.clone(),
            name: hook.name.clone(),
            granted_at_ms: now_ms(),
            granted_by: principal.key.to_string(),
        };
        hook_grants::put(&transaction, &row).await?;
        note(&transaction, Actor::of(principal), &hook, "hook.granted", json!({ "tenant": to.as_str() })).await?;
        transaction.commit().await?;
        tracing::info!(hook = hook.full_name(), tenant.id = %to, by.key = %principal.key, "Granted a hook");
        Ok(HookGrantDetails { row, tenant })
    }

    /// Takes back what was granted to a tenant: what it has attached of the hook fails from the next request on.
    pub(crate) async fn delete_hook_grant(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        tenant: &str,
    ) -> Result<(), RegistryError> {
        let hook = self.hook_for(principal, Action::DeleteHookGrant, owner, name).await?;
        let to = self.hook_grantee(&hook, tenant).await?;
        let transaction = begin_write_of(&self.db, &hook.tenant()).await?;
        self.require_still(&transaction, principal, Action::DeleteHookGrant).await?;
        if !hook_grants::delete(&transaction, &hook.id, to.as_str()).await? {
            return Err(RegistryError::NotFound { what: "grant", name: format!("{} to {tenant}", hook.full_name()) });
        }
        note(&transaction, Actor::of(principal), &hook, "hook.grant_withdrawn", json!({ "tenant": to.as_str() }))
            .await?;
        transaction.commit().await?;
        tracing::info!(hook = hook.full_name(), tenant.id = %to, by.key = %principal.key, "Took a grant back");
        Ok(())
    }

    /// The tenant of this name, which is not the hook's own.
    async fn hook_grantee(&self, hook: &HookRow, name: &str) -> Result<TenantId, RegistryError> {
        let found = self.tenant_named(name).await?;
        if found.id == hook.tenant_id {
            let finding = Finding::field("tenant", format!("another tenant than the owner, given `{name}`"));
            RegistryError::unless_valid(vec![finding])?;
        }
        Ok(TenantId::from_stored(found.id))
    }
}
