//! Erasing a tenant, in two steps: the operator asks for it and says when, and from then on the collector does it, in pieces.
//! Until then it can be taken back. What stays, and why, is in the table of tables ([`crate::db::data_map`]).

use std::time::Duration;

use serde_json::json;
use souk_protocol::Principal;

use crate::Registry;
use crate::admin_key::ADMIN_TENANT;
use crate::audit::{self, Act, Actor};
use crate::db::{TenantErasureRow, TenantRow, begin_write, ms_in, now_ms, tenant_erasures};
use crate::error::{Finding, RegistryError};
use crate::rights::{Action, require};

/// How long after the request a tenant is erased, where no moment is given.
const DUE_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);

impl Registry {
    /// Asks for a tenant's erasure at `due_at_ms`, or in 30 days; another request before then changes the moment.
    pub(crate) async fn request_erasure(
        &self,
        principal: &Principal,
        name: &str,
        due_at_ms: Option<i64>,
    ) -> Result<TenantErasureRow, RegistryError> {
        require(principal, Action::RequestErasure)?;
        let is_past = due_at_ms.is_some_and(|due_at_ms| due_at_ms < now_ms());
        let finding = is_past.then(|| Finding::field("due_at", "a moment in the future"));
        RegistryError::unless_valid(finding.into_iter().collect())?;
        let tenant = self.erasable(name).await?;
        let transaction = begin_write(&self.db).await?;
        if let Some(done) =
            tenant_erasures::get(&transaction, &tenant.tenant()).await?.filter(|row| row.done_at_ms.is_some())
        {
            return Ok(done);
        }
        let row = TenantErasureRow {
            tenant_id: tenant.id.clone(),
            requested_by: principal.key.to_string(),
            requested_at_ms: now_ms(),
            due_at_ms: due_at_ms.unwrap_or_else(|| ms_in(DUE_AFTER)),
            done_at_ms: None,
        };
        tenant_erasures::put(&transaction, row.clone()).await?;
        let details = json!({ "due_at_ms": row.due_at_ms });
        let act = Act { tenant_id: &tenant.id, action: "tenant.erasure_requested", subject: &tenant.id, details };
        audit::append(&transaction, Actor::of(principal), act).await?;
        transaction.commit().await?;
        tracing::warn!(tenant.name = name, by.key = %principal.key, due_at_ms = row.due_at_ms, "Tenant {name} is to be erased");
        Ok(row)
    }

    /// Takes a request back that was not carried out yet.
    pub(crate) async fn cancel_erasure(&self, principal: &Principal, name: &str) -> Result<(), RegistryError> {
        require(principal, Action::CancelErasure)?;
        let tenant = self.erasable(name).await?;
        let transaction = begin_write(&self.db).await?;
        if tenant_erasures::delete(&transaction, &tenant.tenant()).await? {
            let (id, details) = (&tenant.id, json!({}));
            let act = Act { tenant_id: id, action: "tenant.erasure_cancelled", subject: id, details };
            audit::append(&transaction, Actor::of(principal), act).await?;
            transaction.commit().await?;
        }
        Ok(())
    }

    async fn erasable(&self, name: &str) -> Result<TenantRow, RegistryError> {
        if name == ADMIN_TENANT {
            return Err(RegistryError::OperatorsTenant);
        }
        self.tenant_named(name).await
    }
}
