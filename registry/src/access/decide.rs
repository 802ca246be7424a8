//! Deciding on a request for access, and what comes of it.

use sea_orm::DatabaseTransaction;
use serde_json::{Value, json};
use souk_protocol::{Principal, Scope, TenantId};

use super::grants::{NewGrant, tell};
use super::requests::{RequestDetails, request_not_found};
use super::steps::{Step, after};
use crate::Registry;
use crate::adapters::adapter_not_found;
use crate::audit::{self, Act, Actor};
use crate::db::access_requests::Model as RequestRow;
use crate::db::{AdapterRow, access_requests, adapter_grants, adapters, begin_write};
use crate::error::{Finding, RegistryError};
use crate::rights::{Action, require};

const MAX_REASON_CHARS: usize = 1000;

/// What is done with a request, and what is said with it.
pub(crate) struct Decision {
    pub(crate) step: Step,
    /// Of an approval.
    pub(crate) grant: NewGrant,
    /// Of a rejection, which has to have one, and of what is taken back.
    pub(crate) reason: Option<String>,
}

impl Registry {
    /// Takes a request one step further. Of two who do at once, one does, and the other hears what it is by then.
    pub(crate) async fn decide(
        &self,
        principal: &Principal,
        id: &str,
        decision: Decision,
    ) -> Result<RequestDetails, RegistryError> {
        let step = decision.step;
        require(principal, step.action())?;
        decision.check()?;
        let transaction = begin_write(&self.db).await?;
        self.require_still(&transaction, principal, step.action()).await?;
        let found = access_requests::get(&transaction, id).await?.filter(|row| is_for(principal, row, step));
        let before = found.ok_or_else(|| request_not_found(id))?;
        let wrong_state = || RegistryError::WrongRequestState {
            id: id.to_owned(),
            state: before.state.clone(),
            action: step.as_participle(),
        };
        let to = after(before.state(), step).ok_or_else(wrong_state)?;
        let mut row = before.clone();
        match step {
            Step::Withdraw => row.state = to.as_str().to_owned(),
            Step::Approve | Step::Reject | Step::Revoke => row.decide(principal, to, decision.reason.clone()),
        }
        if !access_requests::step(&transaction, before.state(), &row).await? {
            return Err(wrong_state());
        }
        let adapter = adapters::by_ids(&transaction, [row.adapter_id.as_str()]).await?.pop();
        let adapter = adapter.ok_or_else(|| request_not_found(id))?;
        let asker = TenantId::from_stored(&row.tenant_id);
        let mut withdrawn = Vec::new();
        let mut expires_at_ms = None;
        if step == Step::Approve {
            expires_at_ms = self.grant(&transaction, principal, &adapter, &row, &decision.grant).await?;
        } else if let Some(grant) = adapter_grants::get(&transaction, &adapter.id, &asker).await?
            && grant.request_id.as_deref() == Some(id)
        {
            withdrawn = self.take_back(&transaction, &grant).await?;
        }
        let told = json!({
            "request": id, "adapter": adapter.full_name(), "state": row.state, "reason": row.reason,
            "expires_at_ms": expires_at_ms,
        });
        note(&transaction, principal, step, &row, told).await?;
        transaction.commit().await?;
        self.withdrawals.tell(withdrawn);
        tracing::info!(request = id, state = row.state, by.key = %principal.key, "A request for access was decided");
        self.one_request(row).await
    }

    /// Grants what was asked for; answers when it ends.
    async fn grant(
        &self,
        transaction: &DatabaseTransaction,
        principal: &Principal,
        adapter: &AdapterRow,
        request: &RequestRow,
        new: &NewGrant,
    ) -> Result<Option<i64>, RegistryError> {
        if adapter.deleted_at_ms.is_some() {
            return Err(adapter_not_found(&adapter.owner, &adapter.name));
        }
        let to = TenantId::from_stored(&request.tenant_id);
        if adapter_grants::get(transaction, &adapter.id, &to).await?.is_none() {
            self.check_room_for_a_grant(transaction, adapter).await?;
        }
        let row = new.to_row(adapter, &to, principal, Some(request.id.clone()));
        let ends = row.expires_at_ms;
        adapter_grants::put(transaction, row).await?;
        Ok(ends)
    }
}

/// Tells the other side, and appends to the chain of the side that did it.
async fn note(
    transaction: &DatabaseTransaction,
    principal: &Principal,
    step: Step,
    row: &RequestRow,
    told: Value,
) -> Result<(), RegistryError> {
    let details = json!({ "adapter": row.adapter_id, "tenant": row.tenant_id, "expires_at_ms": told["expires_at_ms"] });
    let (heard_by, chain) = match step {
        Step::Withdraw => (&row.owner_id, &row.tenant_id),
        Step::Approve | Step::Reject | Step::Revoke => (&row.tenant_id, &row.owner_id),
    };
    tell(transaction, &TenantId::from_stored(heard_by), &row.id, told).await?;
    let act = Act { tenant_id: chain, action: step.as_action(), subject: &row.id, details };
    Ok(audit::append(transaction, Actor::of(principal), act).await?)
}

/// Whether the caller is on the side that takes this step.
fn is_for(principal: &Principal, row: &RequestRow, step: Step) -> bool {
    match step {
        Step::Withdraw => row.tenant_id == principal.tenant.as_str(),
        _ => row.owner_id == principal.tenant.as_str() || principal.may(Scope::Admin),
    }
}

impl Step {
    const fn action(self) -> Action {
        match self {
            Self::Approve => Action::ApproveAccess,
            Self::Reject => Action::RejectAccess,
            Self::Revoke => Action::RevokeAccess,
            Self::Withdraw => Action::WithdrawAccessRequest,
        }
    }
}

impl Decision {
    fn check(&self) -> Result<(), RegistryError> {
        let given = self.reason.as_deref().map_or(0, |reason| reason.chars().count());
        let needs_one = self.step == Step::Reject || self.reason.is_some();
        if needs_one && !(1..=MAX_REASON_CHARS).contains(&given) {
            let finding = Finding::field("reason", format!("1 to {MAX_REASON_CHARS} characters, given {given}"));
            RegistryError::unless_valid(vec![finding])?;
        }
        self.grant.check()
    }
}
