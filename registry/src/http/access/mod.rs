//! Who may call whose adapters: what is granted, what gated adapters ask, requests and decisions.

mod decide_access;
mod delete_grant;
mod get_access_request;
mod get_gate;
mod list_access_requests;
mod list_grants;
mod list_received_requests;
mod put_grant;
mod request_access;
mod set_gate;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::access::{Answer, Form, GrantDetails, Question, RequestDetails};
use crate::db::{moment, now_ms};
use crate::words::RequestState;

pub(crate) use decide_access::*;
pub(crate) use delete_grant::*;
pub(crate) use get_access_request::*;
pub(crate) use get_gate::*;
pub(crate) use list_access_requests::*;
pub(crate) use list_grants::*;
pub(crate) use list_received_requests::*;
pub(crate) use put_grant::*;
pub(crate) use request_access::*;
pub(crate) use set_gate::*;

/// Which adapter, and which tenant's grant.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct GrantPath {
    /// The tenant that owns the adapter.
    owner: String,
    /// The adapter's name.
    name: String,
    /// The tenant that it is granted to, by name.
    tenant: String,
}

/// Which request.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct AccessRequestPath {
    /// The request's id.
    request: String,
}

/// That a tenant may call an adapter of another.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Grant {
    /// The tenant that may.
    tenant: String,
    /// When that ends by itself; null for never.
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// What the owner noted.
    note: String,
    /// When it was granted.
    #[serde(with = "time::serde::rfc3339")]
    granted_at: OffsetDateTime,
    /// The id of the key or session that granted it.
    granted_by: String,
    /// The id of the request that it was granted for; null if there was none.
    request: Option<String>,
}

/// What a gated adapter asks of who asks for access.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Gate {
    /// The questions, in their order.
    questions: Vec<Question>,
    /// Within how many days the owner means to answer.
    answer_within_days: i64,
}

/// A tenant asks for access to a gated adapter.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AccessRequest {
    /// Its id.
    #[schema(example = "acr_0190f0e0a0b07c0d8e0f0a0b0c0d0e0f")]
    id: String,
    /// `owner/name` of the adapter.
    adapter: String,
    /// The tenant that asks.
    tenant: String,
    /// Where it stands.
    state: RequestState,
    /// What was answered to the owner's questions.
    answers: Vec<Answer>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    asked_at: OffsetDateTime,
    /// When the owner means to have decided.
    #[serde(with = "time::serde::rfc3339")]
    due_at: OffsetDateTime,
    /// Whether it waits and that moment has passed.
    is_overdue: bool,
    /// When it was decided; null if it was not.
    #[serde(with = "time::serde::rfc3339::option")]
    decided_at: Option<OffsetDateTime>,
    /// What the owner said with the decision.
    reason: Option<String>,
    /// When the access ends that was granted for it; null if it does not, or there is none.
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
}

impl From<GrantDetails> for Grant {
    fn from(GrantDetails { row, tenant }: GrantDetails) -> Self {
        Self {
            tenant,
            expires_at: row.expires_at_ms.map(moment),
            note: row.note,
            granted_at: moment(row.granted_at_ms),
            granted_by: row.granted_by,
            request: row.request_id,
        }
    }
}

impl From<(Form, i64)> for Gate {
    fn from((form, answer_within_days): (Form, i64)) -> Self {
        Self { questions: form.0, answer_within_days }
    }
}

impl From<RequestDetails> for AccessRequest {
    fn from(RequestDetails { row, adapter, tenant, answers, expires_at_ms }: RequestDetails) -> Self {
        Self {
            state: row.state(),
            is_overdue: row.state() == RequestState::Pending && row.due_at_ms < now_ms(),
            id: row.id,
            adapter,
            tenant,
            answers,
            asked_at: moment(row.asked_at_ms),
            due_at: moment(row.due_at_ms),
            decided_at: row.decided_at_ms.map(moment),
            reason: row.reason,
            expires_at: expires_at_ms.map(moment),
        }
    }
}
