//! Where a tenant has its events sent.

mod create_webhook;
mod delete_webhook;
mod get_delivery;
mod get_webhook;
mod list_deliveries;
mod list_webhooks;
mod replay_delivery;
mod rotate_webhook_secret;
mod update_webhook;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::db::webhook_deliveries::PENDING;
use crate::db::{WebhookEndpointRow, moment, now_ms};
use crate::webhooks::DeliveryDetails;

pub(crate) use create_webhook::*;
pub(crate) use delete_webhook::*;
pub(crate) use get_delivery::*;
pub(crate) use get_webhook::*;
pub(crate) use list_deliveries::*;
pub(crate) use list_webhooks::*;
pub(crate) use replay_delivery::*;
pub(crate) use rotate_webhook_secret::*;
pub(crate) use update_webhook::*;

/// Which webhook.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct WebhookPath {
    /// Its id.
    webhook: String,
}

/// Which delivery.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct DeliveryPath {
    /// The webhook's id.
    webhook: String,
    /// The delivery's id.
    delivery: String,
}

/// An address that a tenant's events are sent to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Webhook {
    /// Opaque id.
    id: String,
    /// Where events are sent.
    url: String,
    /// What its owner says of it.
    description: String,
    /// The kinds of events that it gets; empty for all, of those too that there will be.
    #[schema(example = json!(["version.ready", "key.revoked"]))]
    kinds: Vec<String>,
    /// `enabled`, or `paused`: it gets nothing until it is enabled.
    #[schema(example = "enabled")]
    state: String,
    /// Why it was paused; null if its owner did it, or if it is not.
    paused_reason: Option<String>,
    /// Since when every delivery fails; null if the last one did not.
    #[serde(with = "time::serde::rfc3339::option")]
    failing_since: Option<OffsetDateTime>,
    /// Until when the secret before signs too; null if it does not.
    #[serde(with = "time::serde::rfc3339::option")]
    secret_before_until: Option<OffsetDateTime>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// When it was changed last.
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

/// A webhook with a secret that was just made.
#[derive(Serialize, ToSchema)]
pub(crate) struct WebhookWithSecret {
    /// What deliveries are signed with: `whsec_` and base64. This is the only time that it is shown; absent from an answer that
    /// is repeated for an `Idempotency-Key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// What is kept of it.
    #[serde(flatten)]
    webhook: Webhook,
}

/// An event on its way to a webhook.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Delivery {
    /// Opaque id.
    id: String,
    /// What it carries: `webhook-id` of the request.
    event_id: String,
    /// The event's kind.
    #[schema(example = "version.ready")]
    kind: String,
    /// The id or name of what the event is about.
    subject: String,
    /// `pending`, `delivered`, or `dead`: it was given up.
    #[schema(example = "delivered")]
    state: String,
    /// How often it was tried.
    attempts: i32,
    /// When it is tried next; null if it is not.
    #[serde(with = "time::serde::rfc3339::option")]
    due_at: Option<OffsetDateTime>,
    /// When it was tried last; null if it was not.
    #[serde(with = "time::serde::rfc3339::option")]
    attempted_at: Option<OffsetDateTime>,
    /// When it was delivered or given up; null if neither.
    #[serde(with = "time::serde::rfc3339::option")]
    ended_at: Option<OffsetDateTime>,
    /// The status of the last answer; null if there was none.
    answer_status: Option<i32>,
    /// What the last answer begins with, in up to 1,024 bytes; null if it had nothing.
    answer_excerpt: Option<String>,
    /// Why the last try failed (docs/webhooks.md); null if it did not.
    #[schema(example = "not_success")]
    failure: Option<String>,
    /// The delivery that this one repeats; null if it is the first of its event.
    replay_of: Option<String>,
    /// When the event happened, or this was asked for.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

impl From<WebhookEndpointRow> for Webhook {
    fn from(row: WebhookEndpointRow) -> Self {
        let before_until = row.secret_before_until_ms.filter(|until_ms| *until_ms > now_ms());
        Self {
            id: row.id,
            url: row.url,
            description: row.description,
            kinds: row.kinds.split_whitespace().map(str::to_owned).collect(),
            state: row.state,
            paused_reason: row.paused_reason,
            failing_since: row.failing_since_ms.map(moment),
            secret_before_until: before_until.map(moment),
            created_at: moment(row.created_at_ms),
            updated_at: moment(row.updated_at_ms),
        }
    }
}

impl From<DeliveryDetails> for Delivery {
    fn from(DeliveryDetails { row, event }: DeliveryDetails) -> Self {
        // What was never tried is due from its making on.
        let due_at = (row.state == PENDING).then(|| moment(row.due_at_ms.max(row.created_at_ms)));
        Self {
            id: row.id,
            event_id: row.event_id,
            kind: event.kind,
            subject: event.subject,
            state: row.state,
            attempts: row.num_attempts,
            due_at,
            attempted_at: row.attempted_at_ms.map(moment),
            ended_at: row.ended_at_ms.map(moment),
            answer_status: row.answer_status,
            answer_excerpt: row.answer_excerpt,
            failure: row.failure,
            replay_of: row.replay_of,
            created_at: moment(row.created_at_ms),
        }
    }
}
