//! Delivering: looks for what is due, claims it and sends it, until it is dropped. What it had claimed then is due again when
//! the lease is over, for this registry or another.
//!
//! Tenants share the places of a process through a gate, so that one whose endpoints never answer holds up nobody else's
//! deliveries, and an endpoint has a few of them at most, so that it holds up none of the same tenant's others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sea_orm::{DatabaseConnection, DbErr};
use serde_json::{Value, json};
use souk_protocol::gate::{Gate, Pass, Rules};
use souk_protocol::{TenantId, wall_clock};
use time::format_description::well_known::Rfc3339;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::secrets::signing;
use super::send::{Failure, Message, Outcome, Sender};
use super::settings::WebhookSettings;
use super::sign::signature;
use crate::audit::{self, Act, Actor};
use crate::db::outbox::{self, Model as EventRow};
use crate::db::webhook_deliveries::{self, Attempt, Next};
use crate::db::webhook_endpoints;
use crate::db::{DeliveryRow, WebhookEndpointRow, begin_row_write, begin_write_of, moment, now_ms};
use crate::error::RegistryError;
use crate::metrics;
use crate::seal::Seals;

/// Deliveries that one endpoint gets at once from a process.
const PER_ENDPOINT: u64 = 4;
/// What a lease is longer than a delivery may take: for the database to be told how it went.
const TO_SETTLE: Duration = Duration::from_secs(15);
/// The answer that says that there never will be an endpoint again.
const GONE: u16 = 410;

/// Delivers. Every registry has one.
pub(crate) struct Deliverer {
    db: DatabaseConnection,
    seals: Arc<Seals>,
    settings: WebhookSettings,
    sender: Sender,
    /// Places of this process, by tenant.
    places: Gate<String>,
    /// By endpoint.
    endpoints: Gate<String>,
}

/// What holds a place for a delivery until it is settled.
type Places = (Pass<String>, Pass<String>);

impl Deliverer {
    /// # Errors
    /// If the client's TLS cannot be set up.
    pub(crate) fn new(
        db: DatabaseConnection,
        seals: Arc<Seals>,
        settings: WebhookSettings,
    ) -> Result<Self, reqwest::Error> {
        let total = settings.max_concurrent as u64;
        Ok(Self {
            db,
            seals,
            sender: Sender::new(&settings)?,
            settings,
            places: Gate::new(Rules::with_an_eighth_kept(total, 1, total)),
            endpoints: Gate::new(Rules { total, reserve: 0, small: 1, most: PER_ENDPOINT }),
        })
    }

    /// Works until it is dropped.
    pub(crate) async fn run(self) {
        let (this, mut running, mut is_failing) = (Arc::new(self), JoinSet::new(), false);
        let mut is_more = false;
        loop {
            tokio::select! {
                () = tokio::time::sleep(this.settings.look_every) => {}
                // A place has come free, and something waited for one.
                Some(_) = running.join_next(), if is_more => {}
            }
            while running.try_join_next().is_some() {}
            match this.begin_due(&mut running).await {
                Ok(more) => (is_more, is_failing) = (more, false),
                Err(error) => {
                    is_more = false;
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!(%error, "Webhooks that are due cannot be looked for");
                    }
                }
            }
        }
    }

    /// Begins what is due and finds a place, an endpoint at a time in turns; answers whether something is left that found none.
    async fn begin_due(self: &Arc<Self>, running: &mut JoinSet<()>) -> Result<bool, DbErr> {
        let mut due = webhook_deliveries::endpoints_with_due(&self.db).await?;
        // Whoever comes first by its id does so in no two rounds.
        let start = due.len().checked_sub(1).map_or(0, |last| rand::random_range(0..=last));
        due.rotate_left(start);
        let mut is_more = false;
        while !due.is_empty() {
            let mut again = Vec::new();
            for (tenant_id, endpoint_id) in due {
                let Some(places) = self.places_for(&tenant_id, &endpoint_id) else {
                    is_more = true;
                    continue;
                };
                // A place that nothing was found for is given back here.
                let Some((delivery, claim)) = self.claim(&endpoint_id).await? else { continue };
                let this = Arc::clone(self);
                running.spawn(async move { this.deliver(delivery, claim, places).await });
                again.push((tenant_id, endpoint_id));
            }
            due = again;
        }
        Ok(is_more)
    }

    fn places_for(&self, tenant_id: &str, endpoint_id: &str) -> Option<Places> {
        let of_endpoint = self.endpoints.enter(&endpoint_id.to_owned(), 1, Instant::now()).ok()?;
        let of_tenant = self.places.enter(&tenant_id.to_owned(), 1, Instant::now()).ok()?;
        Some((of_tenant, of_endpoint))
    }

    /// Takes what is due for an endpoint, if nobody else does.
    async fn claim(&self, endpoint_id: &str) -> Result<Option<(DeliveryRow, String)>, DbErr> {
        let Some(seen) = webhook_deliveries::first_due(&self.db, endpoint_id).await? else { return Ok(None) };
        let claim = format!("clm_{}", Uuid::new_v4().simple());
        let lease = self.settings.timeout + TO_SETTLE;
        let is_taken = webhook_deliveries::take(&self.db, &seen, &claim, lease).await?;
        Ok(is_taken.then_some((seen, claim)))
    }

    async fn deliver(&self, delivery: DeliveryRow, claim: String, places: Places) {
        let id = &delivery.id;
        match self.attempt(&delivery, &claim).await {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(delivery.id = id, %error, "Delivery {id} is tried again when its lease is over");
            }
        }
        drop(places);
    }

    async fn attempt(&self, delivery: &DeliveryRow, claim: &str) -> Result<(), RegistryError> {
        let endpoint =
            webhook_endpoints::get(&self.db, &TenantId::from_stored(&delivery.tenant_id), &delivery.endpoint_id)
                .await?;
        let event = outbox::by_event_ids(&self.db, [delivery.event_id.as_str()]).await?.pop();
        // Where the endpoint was deleted, the collector takes the delivery along.
        let Some(endpoint) = endpoint else { return Ok(()) };
        let Some(event) = event else {
            // It was kept no longer as somebody had it sent again.
            return Ok(webhook_deliveries::delete_of_events(&self.db, std::slice::from_ref(&delivery.event_id)).await?);
        };
        let outcome = self.send(&endpoint, &event).await;
        metrics::webhook_tried(outcome.failure.map_or("delivered", Failure::as_str));
        self.settle(delivery, claim, &endpoint, outcome).await
    }

    async fn send(&self, endpoint: &WebhookEndpointRow, event: &EventRow) -> Outcome {
        let Ok(secrets) = signing(&self.seals, endpoint) else { return Outcome::failed(Failure::NoSecret) };
        let (body, at_s) = (body_of(event), wall_clock::since_epoch().as_secs());
        let signature = &signature(&secrets, &event.event_id, at_s, &body);
        self.sender.send(Message { url: &endpoint.url, id: &event.event_id, at_s, signature, body }).await
    }

    /// Notes what came of a try, for the delivery and for its endpoint.
    async fn settle(
        &self,
        delivery: &DeliveryRow,
        claim: &str,
        endpoint: &WebhookEndpointRow,
        outcome: Outcome,
    ) -> Result<(), RegistryError> {
        let failure = outcome.failure;
        let next = match failure {
            None => Next::Delivered,
            Some(_) => self.after_failure(delivery),
        };
        let attempt = Attempt {
            answer_status: outcome.status.map(i32::from),
            answer_excerpt: outcome.excerpt,
            failure: failure.map(Failure::as_str),
            next,
        };
        let reason = failure.and_then(|failure| self.reason_to_pause(endpoint, failure, outcome.status));
        let transaction = match &reason {
            // Its chain is appended to.
            Some(_) => begin_write_of(&self.db, &endpoint.tenant()).await?,
            None => begin_row_write(&self.db).await?,
        };
        if !webhook_deliveries::settle(&transaction, &delivery.id, claim, attempt).await? {
            return Ok(());
        }
        match failure {
            None => webhook_endpoints::note_success(&transaction, &endpoint.id).await?,
            Some(_) => webhook_endpoints::note_failure(&transaction, &endpoint.id).await?,
        }
        if let Some(reason) = reason
            && webhook_endpoints::pause(&transaction, &endpoint.id, &reason).await?
        {
            let (tenant_id, subject) = (endpoint.tenant_id.as_str(), endpoint.id.as_str());
            let act = Act { tenant_id, action: "webhook.paused", subject, details: json!({}) };
            audit::append(&transaction, Actor::System, act).await?;
            tracing::warn!(webhook.id = subject, webhook.tenant = tenant_id, "Paused webhook {subject}: {reason}");
        }
        transaction.commit().await?;
        Ok(())
    }

    fn after_failure(&self, delivery: &DeliveryRow) -> Next {
        let tries = u32::try_from(delivery.num_attempts).unwrap_or_default();
        let pause = pause_after(tries, self.settings.first_retry, self.settings.longest_retry);
        let age_ms = now_ms().saturating_sub(delivery.created_at_ms);
        let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or_default());
        if age + pause > self.settings.retry_for { Next::Dead } else { Next::Again(pause) }
    }

    /// Why an endpoint gets nothing any more, if it has failed for long or says itself that it is gone.
    fn reason_to_pause(&self, endpoint: &WebhookEndpointRow, failure: Failure, status: Option<u16>) -> Option<String> {
        if status == Some(GONE) {
            return Some("it answered 410 Gone".to_owned());
        }
        let since_ms = endpoint.failing_since_ms?;
        let for_ms = u64::try_from(now_ms().saturating_sub(since_ms)).unwrap_or_default();
        let since = moment(since_ms).format(&Rfc3339).unwrap_or_default();
        let last = status.map_or_else(|| failure.as_str().to_owned(), |status| format!("the answer {status}"));
        let is_long = Duration::from_millis(for_ms) >= self.settings.pause_after;
        is_long.then(|| format!("every delivery has failed since {since}, the last with {last}"))
    }
}

/// What is sent of an event: the same at each try.
fn body_of(event: &EventRow) -> String {
    let at = moment(event.emitted_at_ms).format(&Rfc3339).unwrap_or_default();
    let data: Value = serde_json::from_str(&event.payload).unwrap_or_default();
    json!({ "type": event.kind, "timestamp": at, "subject": event.subject, "data": data }).to_string()
}

/// How long after a failed try, of which there were `tries` before, comes the next: twice as long each time up to the
/// longest, less a random part of up to a half, so that what failed together does not come again together.
fn pause_after(tries: u32, first: Duration, longest: Duration) -> Duration {
    let whole = first.saturating_mul(2_u32.saturating_pow(tries)).min(longest);
    whole.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pauses_double_up_to_the_longest_and_are_never_shorter_than_half(tries in 0_u32..100, first_s in 1_u64..100, longest_s in 100_u64..100_000) {
            let (first, longest) = (Duration::from_secs(first_s), Duration::from_secs(longest_s));
            let pause = pause_after(tries, first, longest);
            let whole = if tries < 20 { first.saturating_mul(1 << tries).min(longest) } else { longest };
            prop_assert!(pause <= whole && pause >= whole / 2, "{pause:?} of {whole:?}");
        }
    }
}
