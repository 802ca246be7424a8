//! Granting an adapter to tenants, and what a gated one asks.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr};
use serde_json::json;
use souk_protocol::{AdapterName, Deprived, Principal, TenantId, wall_clock};
use time::OffsetDateTime;

use super::form::Form;
use super::steps::{Step, after};
use crate::Registry;
use crate::adapters::adapter_not_found;
use crate::audit::{self, Act, Actor};
use crate::db::adapter_grants::Model as GrantRow;
use crate::db::{
    AdapterRow, access_requests, adapter_gates, adapter_grants, adapters, begin_write, begin_write_of, ms_of, now_ms,
    tenants, withdrawals,
};
use crate::error::{Finding, RegistryError};
use crate::events::{self, Event, Kind};
use crate::rights::{Action, require_decider};
use crate::slice::Slice;
use crate::tenants::check_not_erased;
use crate::withdrawals::Withdrawn;
use crate::words::Visibility;

/// Longest note of a grant.
pub(super) const MAX_NOTE_CHARS: usize = 500;
/// Longest time that an owner may take to answer, in days.
const MAX_ANSWER_DAYS: i64 = 90;
/// Within how many days a request is due where the owner said nothing.
pub(super) const ANSWER_DAYS: i64 = 14;

/// A grant as a caller asks for it, unchecked.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewGrant {
    /// When it ends by itself.
    pub(crate) expires_at: Option<OffsetDateTime>,
    /// What its owner notes about it.
    pub(crate) note: String,
}

/// A grant and whom it is to.
pub(crate) struct GrantDetails {
    pub(crate) row: GrantRow,
    /// The tenant's name.
    pub(crate) tenant: String,
}

/// What a gated adapter asks, as a caller wants it, unchecked.
pub(crate) struct NewGate {
    pub(crate) form: Form,
    /// Within how many days the owner means to answer.
    pub(crate) answer_within_days: i64,
}

impl Registry {
    /// To whom an adapter was granted, expired grants included, by the tenants' ids.
    pub(crate) async fn list_grants(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        slice: Slice,
    ) -> Result<Vec<GrantDetails>, RegistryError> {
        let adapter = self.adapter_for(principal, Action::ListGrants, owner, name).await?;
        let limit = slice.with_one_more();
        let rows = adapter_grants::list(&self.db, &adapter.id, slice.after, limit).await?;
        let names = tenant_names(&self.db, rows.iter().map(|row| row.tenant_id.as_str())).await?;
        let named = |row: GrantRow| GrantDetails { tenant: name_in(&names, &row.tenant_id), row };
        Ok(rows.into_iter().map(named).collect())
    }

    /// Grants an adapter to a tenant, or changes when that ends and its note. A gated one is granted by persons.
    pub(crate) async fn put_grant(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        tenant: &str,
        new: NewGrant,
    ) -> Result<GrantDetails, RegistryError> {
        let adapter = self.adapter_for(principal, Action::PutGrant, owner, name).await?;
        new.check()?;
        let to = self.grantee(&adapter, tenant).await?;
        let transaction = begin_write_of(&self.db, &adapter.tenant()).await?;
        let now = self.require_still(&transaction, principal, Action::PutGrant).await?;
        let adapter = still_there(&transaction, &adapter).await?;
        check_gated(&now, &adapter)?;
        check_not_erased(&transaction, &to).await?;
        let before = adapter_grants::get(&transaction, &adapter.id, &to).await?;
        if before.is_none() {
            self.check_room_for_a_grant(&transaction, &adapter).await?;
        }
        let (granted_at_ms, request_id) = before.map_or((now_ms(), None), |row| (row.granted_at_ms, row.request_id));
        let row = GrantRow { granted_at_ms, ..new.to_row(&adapter, &to, principal, request_id) };
        adapter_grants::put(&transaction, row.clone()).await?;
        let payload = json!({
            "adapter": adapter.full_name(), "state": "granted", "expires_at_ms": row.expires_at_ms,
        });
        tell(&transaction, &to, &adapter.full_name(), payload).await?;
        let details = json!({ "adapter": adapter.id, "tenant": to.as_str(), "expires_at_ms": row.expires_at_ms });
        note(&transaction, principal, &adapter, "access.granted", details).await?;
        transaction.commit().await?;
        tracing::info!(adapter = adapter.full_name(), tenant.id = %to, by.key = %principal.key, "Granted an adapter");
        Ok(GrantDetails { row, tenant: tenant.to_owned() })
    }

    /// Takes back what was granted to a tenant, whose running answers of the adapter end.
    pub(crate) async fn delete_grant(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        tenant: &str,
    ) -> Result<(), RegistryError> {
        let adapter = self.adapter_for(principal, Action::DeleteGrant, owner, name).await?;
        let to = self.grantee(&adapter, tenant).await?;
        let transaction = begin_write(&self.db).await?;
        let now = self.require_still(&transaction, principal, Action::DeleteGrant).await?;
        let adapter = still_there(&transaction, &adapter).await?;
        check_gated(&now, &adapter)?;
        let not_found =
            || RegistryError::NotFound { what: "grant", name: format!("{} to {tenant}", adapter.full_name()) };
        let grant = adapter_grants::get(&transaction, &adapter.id, &to).await?.ok_or_else(not_found)?;
        if let Some(id) = &grant.request_id
            && let Some(mut request) = access_requests::get(&transaction, id).await?
            && let Some(state) = after(request.state(), Step::Revoke)
        {
            let from = request.state();
            request.decide(principal, state, None);
            access_requests::step(&transaction, from, &request).await?;
        }
        let withdrawn = self.take_back(&transaction, &grant).await?;
        let payload = json!({ "adapter": adapter.full_name(), "state": "withdrawn", "expires_at_ms": null });
        tell(&transaction, &to, &adapter.full_name(), payload).await?;
        let details = json!({ "adapter": adapter.id, "tenant": to.as_str() });
        note(&transaction, principal, &adapter, "access.withdrawn", details).await?;
        transaction.commit().await?;
        self.withdrawals.tell(withdrawn);
        tracing::info!(adapter = adapter.full_name(), tenant.id = %to, by.key = %principal.key, "Took a grant back");
        Ok(())
    }

    /// What a gated adapter asks of who asks for access, and within how many days the owner means to answer.
    pub(crate) async fn gate(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
    ) -> Result<(Form, i64), RegistryError> {
        let adapter = self.adapter_for(principal, Action::GetGate, owner, name).await?;
        Ok(gate_of(&self.db, &adapter.id).await?)
    }

    /// Sets what a gated adapter asks; requests that were made keep the questions that they answered.
    pub(crate) async fn set_gate(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        new: NewGate,
    ) -> Result<(Form, i64), RegistryError> {
        let adapter = self.adapter_for(principal, Action::SetGate, owner, name).await?;
        new.check()?;
        let transaction = begin_write_of(&self.db, &adapter.tenant()).await?;
        still_there(&transaction, &adapter).await?;
        let row = adapter_gates::Model {
            adapter_id: adapter.id.clone(),
            questions: new.form.to_column(),
            answer_within_days: new.answer_within_days,
            updated_at_ms: now_ms(),
        };
        adapter_gates::put(&transaction, row).await?;
        let details = json!({ "adapter": adapter.id, "num_questions": new.form.0.len() });
        note(&transaction, principal, &adapter, "access.gate_set", details).await?;
        transaction.commit().await?;
        Ok((new.form, new.answer_within_days))
    }

    /// Removes a grant in a transaction that excludes all others. Answers what is to be told once it is committed.
    pub(super) async fn take_back(
        &self,
        transaction: &DatabaseTransaction,
        grant: &GrantRow,
    ) -> Result<Vec<Withdrawn>, DbErr> {
        adapter_grants::delete(transaction, grant).await?;
        let adapter = AdapterName::new(&grant.owner, &grant.name).expect("only checked names are stored");
        let from = Deprived::Tenant(TenantId::from_stored(&grant.tenant_id));
        let withdrawn = vec![Withdrawn::Access { adapter, from }];
        withdrawals::insert_all(transaction, &self.owner, withdrawn.iter().map(Withdrawn::to_row)).await?;
        Ok(withdrawn)
    }

    /// Ends a call that would grant an adapter to one tenant more than may be.
    pub(super) async fn check_room_for_a_grant(
        &self,
        connection: &impl ConnectionTrait,
        adapter: &AdapterRow,
    ) -> Result<(), RegistryError> {
        let given = adapter_grants::count_of(connection, &adapter.id).await?;
        RegistryError::unless_fewer(given, self.config.settings.max_grants_per_adapter, |given, limit| {
            let (of, setting) = (format!("`{}`", adapter.full_name()), "registry.max_grants_per_adapter");
            RegistryError::TooMany { what: "grants", of, setting, limit, given, remedy: "withdraw one first" }
        })
    }

    /// The tenant of this name, which is not the adapter's own.
    async fn grantee(&self, adapter: &AdapterRow, name: &str) -> Result<TenantId, RegistryError> {
        let found = self.tenant_named(name).await?;
        if found.id == adapter.tenant_id {
            let finding = Finding::field("tenant", format!("another tenant than the owner, given `{name}`"));
            RegistryError::unless_valid(vec![finding])?;
        }
        Ok(TenantId::from_stored(found.id))
    }
}

impl NewGrant {
    pub(super) fn check(&self) -> Result<(), RegistryError> {
        let mut findings = Vec::new();
        let given = self.note.chars().count();
        if given > MAX_NOTE_CHARS {
            findings.push(Finding::field("note", format!("at most {MAX_NOTE_CHARS} characters, given {given}")));
        }
        if self.expires_at.is_some_and(|moment| moment <= wall_clock::now()) {
            findings.push(Finding::field("expires_at", "a moment in the future"));
        }
        RegistryError::unless_valid(findings)
    }

    pub(super) fn to_row(
        &self,
        adapter: &AdapterRow,
        to: &TenantId,
        by: &Principal,
        request_id: Option<String>,
    ) -> GrantRow {
        GrantRow {
            adapter_id: adapter.id.clone(),
            tenant_id: to.to_string(),
            owner: adapter.owner.clone(),
            name: adapter.name.clone(),
            expires_at_ms: self.expires_at.map(ms_of),
            note: self.note.clone(),
            granted_at_ms: now_ms(),
            granted_by: by.key.to_string(),
            request_id,
        }
    }
}

impl NewGate {
    fn check(&self) -> Result<(), RegistryError> {
        let days = self.answer_within_days;
        if !(1..=MAX_ANSWER_DAYS).contains(&days) {
            let finding = Finding::field("answer_within_days", format!("1 to {MAX_ANSWER_DAYS}, given {days}"));
            RegistryError::unless_valid(vec![finding])?;
        }
        self.form.check()
    }
}

/// What an adapter asks, and within how many days it means to answer.
pub(super) async fn gate_of(connection: &impl ConnectionTrait, adapter_id: &str) -> Result<(Form, i64), DbErr> {
    let row = adapter_gates::of(connection, adapter_id).await?;
    Ok(row.map_or((Form::default(), ANSWER_DAYS), |row| (Form::from_column(&row.questions), row.answer_within_days)))
}

/// Ends a call of a service with what persons decide: who gets at a gated adapter.
fn check_gated(principal: &Principal, adapter: &AdapterRow) -> Result<(), RegistryError> {
    match Visibility::from_column(&adapter.visibility) {
        Visibility::Gated => require_decider(principal),
        _ => Ok(()),
    }
}

/// The adapter as it is now. Ends a call for one that was deleted meanwhile.
pub(super) async fn still_there(
    connection: &impl ConnectionTrait,
    adapter: &AdapterRow,
) -> Result<AdapterRow, RegistryError> {
    let found = adapters::live(connection, &adapter.owner, &adapter.name).await?;
    found.ok_or_else(|| adapter_not_found(&adapter.owner, &adapter.name))
}

/// Tells a tenant what was decided for it.
pub(super) async fn tell(
    transaction: &DatabaseTransaction,
    tenant: &TenantId,
    subject: &str,
    payload: serde_json::Value,
) -> Result<(), DbErr> {
    let event = Event { tenant, kind: Kind::AccessDecided, subject, payload };
    events::emit(transaction, event).await
}

/// Appends to the chain of the adapter's tenant.
pub(super) async fn note(
    transaction: &DatabaseTransaction,
    principal: &Principal,
    adapter: &AdapterRow,
    action: &'static str,
    details: serde_json::Value,
) -> Result<(), DbErr> {
    let subject = &adapter.full_name();
    audit::append(transaction, Actor::of(principal), Act { tenant_id: &adapter.tenant_id, action, subject, details })
        .await
}

/// Names of tenants by their ids.
pub(super) async fn tenant_names<'a>(
    connection: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = &'a str>,
) -> Result<HashMap<String, String>, DbErr> {
    let found = tenants::by_ids(connection, ids).await?;
    Ok(found.into_iter().map(|tenant| (tenant.id, tenant.name)).collect())
}

pub(super) fn name_in(names: &HashMap<String, String>, id: &str) -> String {
    names.get(id).cloned().unwrap_or_default()
}
