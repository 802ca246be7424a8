//! Carrying out erasures of tenants that are due, a piece at a time: a collector that is killed in between leaves a tenant half
//! erased, and the next one goes on.

use sea_orm::DatabaseTransaction;
use serde_json::json;
use souk_protocol::{KeyId, TenantId};

use super::Collector;
use crate::adapters::{delete_rows, hidden};
use crate::audit::{self, Act, Actor};
use crate::blobs::{end_upload_in, remove_released};
use crate::db::data_map::TABLES;
use crate::db::{
    AdapterRow, HookRow, MAX_IN, adapters, api_keys, begin_write, begin_write_of, hooks, invitations, members,
    sessions, tenant_erasures, uploads, withdrawals,
};
use crate::error::RegistryError;
use crate::hooks::delete_rows as delete_hook_rows;
use crate::metrics;
use crate::sessions::end_sessions;
use crate::withdrawals::Withdrawn;

/// Rows that are removed in one transaction.
const AT_ONCE: u64 = 500;

impl Collector {
    /// Erases the tenant that is due for the longest time, if there is one.
    pub(super) async fn erase_due_tenant(&self) -> Result<(), RegistryError> {
        let Some(due) = tenant_erasures::first_due(&self.db).await? else { return Ok(()) };
        let (tenant, tenant_id) = (&due.tenant(), due.tenant_id.as_str());
        self.end_who_acts(tenant, &due.requested_by).await?;
        while let Some(adapter) = adapters::any_of(&self.db, tenant).await? {
            self.erase_adapter(&adapter).await?;
        }
        while let Some(hook) = hooks::any_of(&self.db, tenant).await? {
            self.erase_hook(&hook).await?;
        }
        // Of adapters that were deleted before, where whoever worked on them is gone.
        while let Some(upload) = uploads::any_of(&self.db, tenant).await? {
            let transaction = begin_write(&self.db).await?;
            let digests = end_upload_in(&transaction, &upload.id, Vec::new()).await?;
            transaction.commit().await?;
            remove_released(&self.db, &*self.objects, digests).await;
        }
        for table in TABLES {
            loop {
                let transaction = begin_write_of(&self.db, tenant).await?;
                let is_more = table.erase(&transaction, tenant, AT_ONCE).await?;
                transaction.commit().await?;
                if !is_more {
                    break;
                }
            }
        }
        let transaction = begin_write_of(&self.db, tenant).await?;
        if tenant_erasures::note_done(&transaction, tenant).await? {
            let act = Act { tenant_id, action: "tenant.erased", subject: tenant_id, details: json!({}) };
            audit::append(&transaction, Actor::System, act).await?;
        }
        transaction.commit().await?;
        metrics::collected("tenant", 1);
        tracing::warn!(tenant.id = tenant_id, "Erased tenant {tenant_id}");
        Ok(())
    }

    /// Ends all with which somebody may act for a tenant, for who asked for its erasure, so that nobody does anything while it
    /// goes: what is left of its keys, memberships with the sessions of who had them, and invitations.
    async fn end_who_acts(&self, tenant: &TenantId, by: &str) -> Result<(), RegistryError> {
        let transaction = begin_write(&self.db).await?;
        invitations::delete_all_of(&transaction, tenant).await?;
        let persons = members::delete_all_of(&transaction, tenant).await?;
        let mut sessions = Vec::new();
        for some in persons.chunks(MAX_IN) {
            sessions.extend(sessions::ids_of_persons(&transaction, some.iter().map(String::as_str)).await?);
        }
        // Told by nobody, so that this registry hears of it too.
        end_sessions(&transaction, "", sessions).await?;
        let unrevoked = api_keys::unrevoked_of(&transaction, tenant).await?;
        let ids: Vec<_> = unrevoked.into_iter().map(|key| key.id).collect();
        for some in ids.chunks(MAX_IN) {
            api_keys::revoke(&transaction, some, Some(by), Some("erased")).await?;
        }
        let rows = ids.iter().map(|id| Withdrawn::Key(KeyId::from_stored(id)).to_row());
        withdrawals::insert_all(&transaction, "", rows).await?;
        if !ids.is_empty() {
            let details = json!({ "keys": ids, "revoked_for": "erased" });
            let tenant_id = tenant.as_str();
            let act = Act { tenant_id, action: "key.revoked", subject: tenant_id, details };
            audit::append(&transaction, Actor::System, act).await?;
        }
        Ok(transaction.commit().await?)
    }

    async fn erase_adapter(&self, adapter: &AdapterRow) -> Result<(), RegistryError> {
        let transaction = begin_write(&self.db).await?;
        let mut digests = end_uploads(&transaction, adapter).await?;
        digests.extend(delete_rows(&transaction, adapter).await?.unwrap_or_default());
        // Told by nobody, so that this registry hears of it too.
        withdrawals::insert_all(&transaction, "", [hidden(adapter).to_row()]).await?;
        transaction.commit().await?;
        remove_released(&self.db, &*self.objects, digests).await;
        Ok(())
    }

    /// Deletes a hook, as its owner would. What others have attached of it fails from then on.
    async fn erase_hook(&self, hook: &HookRow) -> Result<(), RegistryError> {
        let transaction = begin_write_of(&self.db, &hook.tenant()).await?;
        let digests = delete_hook_rows(&transaction, hook).await?.unwrap_or_default();
        transaction.commit().await?;
        remove_released(&self.db, &*self.objects, digests).await;
        Ok(())
    }
}

/// Ends the uploads for an adapter: they cannot be committed any more.
async fn end_uploads(transaction: &DatabaseTransaction, adapter: &AdapterRow) -> Result<Vec<String>, RegistryError> {
    let mut digests = Vec::new();
    while let Some(upload) = uploads::of_adapter(transaction, &adapter.id, None).await? {
        digests.extend(end_upload_in(transaction, &upload.id, Vec::new()).await?);
    }
    Ok(digests)
}
