//! Asking for access to a gated adapter.

use std::collections::{BTreeMap, HashMap};

use sea_orm::DbErr;
use serde::Serialize;
use serde_json::{Value, json};
use souk_protocol::{AdapterName, Principal, Scope, TenantId};
use uuid::Uuid;

use super::form::Answer;
use super::grants::{gate_of, name_in, still_there, tenant_names};
use crate::Registry;
use crate::audit::{self, Act, Actor};
use crate::db::access_requests::{Model as RequestRow, Side};
use crate::db::{access_requests, adapter_grants, adapters, begin_write_of, now_ms};
use crate::error::RegistryError;
use crate::events::{self, Event, Kind};
use crate::idempotency::Once;
use crate::rights::{Action, require};
use crate::slice::Slice;
use crate::words::RequestState;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// A request with the names of what it is about.
#[derive(Clone)]
pub(crate) struct RequestDetails {
    pub(crate) row: RequestRow,
    /// `owner/name`.
    pub(crate) adapter: String,
    /// The tenant that asks, by name.
    pub(crate) tenant: String,
    pub(crate) answers: Vec<Answer>,
    /// When the grant that it was approved with ends; `None` if it does not, or there is none.
    pub(crate) expires_at_ms: Option<i64>,
}

/// Which requests for a tenant's adapters are asked for.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// A tenant's name; `None` for the caller's own.
    pub(crate) tenant: Option<String>,
    pub(crate) state: Option<RequestState>,
    pub(crate) adapter: Option<AdapterName>,
}

impl Registry {
    /// Asks for access to a gated adapter in the name of the caller's tenant. `shape` makes the answer that is kept for an
    /// `Idempotency-Key`.
    pub(crate) async fn request_access<A: Serialize>(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        answers: BTreeMap<String, Value>,
        once: &Once,
        shape: impl FnOnce(RequestDetails) -> A,
    ) -> Result<RequestDetails, RegistryError> {
        let seen = self.seen_for(principal, Action::RequestAccess, owner, name).await?;
        if seen.is_callable() {
            return Err(RegistryError::AlreadyGranted(seen.row.full_name()));
        }
        let adapter = seen.row;
        let (form, days) = gate_of(&self.db, &adapter.id).await?;
        let answers = form.answered(answers)?;
        let transaction = begin_write_of(&self.db, &adapter.tenant()).await?;
        still_there(&transaction, &adapter).await?;
        if access_requests::is_pending(&transaction, &adapter.id, &principal.tenant).await? {
            return Err(RegistryError::AlreadyExists { what: "request for access to", name: adapter.full_name() });
        }
        let given = access_requests::count_of_a_day(&transaction, &adapter.id, &principal.tenant).await?;
        RegistryError::unless_fewer(given, self.config.settings.max_access_requests_per_day, |given, limit| {
            let (of, setting) = ("the tenant".to_owned(), "registry.max_access_requests_per_day");
            let what = "requests for access to this adapter within a day";
            RegistryError::TooMany { what, of, setting, limit, given, remedy: "wait a day" }
        })?;
        let now_ms = now_ms();
        let row = RequestRow {
            id: format!("acr_{}", Uuid::now_v7().simple()),
            adapter_id: adapter.id.clone(),
            owner_id: adapter.tenant_id.clone(),
            tenant_id: principal.tenant.to_string(),
            state: RequestState::Pending.as_str().to_owned(),
            answers: serde_json::to_string(&answers).expect("answers have only text keys"),
            asked_by: principal.key.to_string(),
            asked_by_person: principal.person.as_ref().map(ToString::to_string),
            asked_at_ms: now_ms,
            due_at_ms: now_ms + days * DAY_MS,
            decided_by: None,
            decided_by_person: None,
            decided_at_ms: None,
            reason: None,
        };
        let row = access_requests::insert(&transaction, row).await?;
        let (adapter_name, tenant) = (adapter.full_name(), principal.tenant_name.clone());
        let payload =
            json!({ "request": row.id, "adapter": adapter_name, "tenant": tenant, "due_at_ms": row.due_at_ms });
        let event = Event {
            tenant: &TenantId::from_stored(&row.owner_id),
            kind: Kind::AccessRequested,
            subject: &row.id,
            payload,
        };
        events::emit(&transaction, event).await?;
        let details = json!({ "adapter": row.adapter_id, "tenant": row.tenant_id });
        let act = Act { tenant_id: &row.tenant_id, action: "access.requested", subject: &row.id, details };
        audit::append(&transaction, Actor::of(principal), act).await?;
        let made = RequestDetails { row, adapter: adapter_name, tenant, answers, expires_at_ms: None };
        once.keep_in(&transaction, || shape(made.clone())).await?;
        transaction.commit().await?;
        tracing::info!(request = made.row.id, adapter = made.adapter, by.key = %principal.key, "Asked for access");
        Ok(made)
    }

    /// The requests that the caller's tenant made, newest first.
    pub(crate) async fn asked_requests(
        &self,
        principal: &Principal,
        state: Option<RequestState>,
        slice: Slice,
    ) -> Result<Vec<RequestDetails>, RegistryError> {
        require(principal, Action::ListAccessRequests)?;
        let limit = slice.with_one_more();
        let side = Side::Asked(&principal.tenant);
        let rows = access_requests::list(&self.db, side, state, None, slice.after, limit).await?;
        Ok(self.request_details(rows).await?)
    }

    /// The requests for a tenant's adapters, newest first.
    pub(crate) async fn received_requests(
        &self,
        principal: &Principal,
        which: Received,
        slice: Slice,
    ) -> Result<Vec<RequestDetails>, RegistryError> {
        require(principal, Action::ListReceivedRequests)?;
        let tenant = self.tenant_meant(principal, which.tenant.as_deref()).await?;
        let adapter = match &which.adapter {
            None => None,
            Some(name) => match adapters::ever(&self.db, name.owner(), name.name()).await? {
                Some(adapter) => Some(adapter.id),
                None => return Ok(Vec::new()),
            },
        };
        let limit = slice.with_one_more();
        let side = Side::Received(&tenant);
        let rows = access_requests::list(&self.db, side, which.state, adapter.as_deref(), slice.after, limit).await?;
        Ok(self.request_details(rows).await?)
    }

    /// One request, for who made it and for who may decide it.
    pub(crate) async fn access_request(
        &self,
        principal: &Principal,
        id: &str,
    ) -> Result<RequestDetails, RegistryError> {
        require(principal, Action::GetAccessRequest)?;
        let is_theirs = |row: &RequestRow| {
            row.tenant_id == principal.tenant.as_str()
                || (row.owner_id == principal.tenant.as_str() && principal.may(Scope::AccessDecide))
                || principal.may(Scope::Admin)
        };
        let found = access_requests::get(&self.db, id).await?.filter(is_theirs);
        let row = found.ok_or_else(|| request_not_found(id))?;
        self.one_request(row).await
    }

    /// A request with names and grant.
    pub(super) async fn one_request(&self, row: RequestRow) -> Result<RequestDetails, RegistryError> {
        let mut details = self.request_details(vec![row]).await?;
        Ok(details.pop().expect("one row has one set of details"))
    }

    async fn request_details(&self, rows: Vec<RequestRow>) -> Result<Vec<RequestDetails>, DbErr> {
        let names = tenant_names(&self.db, rows.iter().map(|row| row.tenant_id.as_str())).await?;
        let found = adapters::by_ids(&self.db, rows.iter().map(|row| row.adapter_id.as_str())).await?;
        let adapters: HashMap<_, _> = found.into_iter().map(|row| (row.id.clone(), row.full_name())).collect();
        let ends = adapter_grants::ends_of(&self.db, rows.iter().map(|row| row.id.as_str())).await?;
        let ends: HashMap<_, _> = ends.into_iter().collect();
        let details = |row: RequestRow| RequestDetails {
            adapter: name_in(&adapters, &row.adapter_id),
            tenant: name_in(&names, &row.tenant_id),
            answers: serde_json::from_str(&row.answers).unwrap_or_default(),
            expires_at_ms: ends.get(&row.id).copied().flatten(),
            row,
        };
        Ok(rows.into_iter().map(details).collect())
    }
}

pub(super) fn request_not_found(id: &str) -> RegistryError {
    RegistryError::NotFound { what: "request", name: id.to_owned() }
}
