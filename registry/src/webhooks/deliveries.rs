//! What became of deliveries, for the owner of their endpoint, and doing one again.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::json;
use souk_protocol::Principal;

use crate::Registry;
use crate::audit::{self, Act, Actor};
use crate::db::outbox::{self, Model as EventRow};
use crate::db::{DeliveryRow, begin_write_of, webhook_deliveries, webhook_endpoints};
use crate::error::RegistryError;
use crate::idempotency::Once;
use crate::rights::{Action, require};
use crate::slice::Slice;

/// A delivery and the event that it carries.
#[derive(Clone)]
pub(crate) struct DeliveryDetails {
    pub(crate) row: DeliveryRow,
    pub(crate) event: EventRow,
}

impl Registry {
    /// Deliveries to an endpoint, the newest first; a sort key is an id.
    pub(crate) async fn list_deliveries(
        &self,
        principal: &Principal,
        endpoint: &str,
        state: Option<&str>,
        slice: Slice,
    ) -> Result<Vec<DeliveryDetails>, RegistryError> {
        require(principal, Action::ListDeliveries)?;
        self.existing_endpoint(principal, endpoint).await?;
        let limit = slice.with_one_more();
        let rows = webhook_deliveries::list(&self.db, endpoint, state, slice.after, limit).await?;
        let events = outbox::by_event_ids(&self.db, rows.iter().map(|row| row.event_id.as_str())).await?;
        let events: HashMap<_, _> = events.into_iter().map(|event| (event.event_id.clone(), event)).collect();
        // An event that is gone takes its deliveries along.
        let details = |row: DeliveryRow| Some(DeliveryDetails { event: events.get(&row.event_id)?.clone(), row });
        Ok(rows.into_iter().filter_map(details).collect())
    }

    /// One delivery.
    pub(crate) async fn get_delivery(
        &self,
        principal: &Principal,
        endpoint: &str,
        id: &str,
    ) -> Result<DeliveryDetails, RegistryError> {
        require(principal, Action::GetDelivery)?;
        self.delivery(principal, endpoint, id).await
    }

    /// Sends an event once more, whatever became of the delivery: another one of its own, under the same `webhook-id`.
    pub(crate) async fn replay_delivery<A: Serialize>(
        &self,
        principal: &Principal,
        endpoint: &str,
        id: &str,
        once: &Once,
        shape: impl FnOnce(DeliveryDetails) -> A,
    ) -> Result<DeliveryDetails, RegistryError> {
        require(principal, Action::ReplayDelivery)?;
        let DeliveryDetails { row, event } = self.delivery(principal, endpoint, id).await?;
        let tenant = &principal.tenant;
        let transaction = begin_write_of(&self.db, tenant).await?;
        let new = webhook_deliveries::insert(&transaction, tenant, endpoint, &row.event_id, Some(&row.id)).await?;
        let made = webhook_deliveries::get(&transaction, endpoint, &new).await?;
        let made = DeliveryDetails { row: made.ok_or_else(|| not_found(&new))?, event };
        let details = json!({ "webhook": endpoint, "replay_of": row.id });
        let act = Act { tenant_id: tenant.as_str(), action: "webhook.delivery_replayed", subject: &new, details };
        audit::append(&transaction, Actor::of(principal), act).await?;
        once.keep_in(&transaction, || shape(made.clone())).await?;
        transaction.commit().await?;
        Ok(made)
    }

    async fn delivery(
        &self,
        principal: &Principal,
        endpoint: &str,
        id: &str,
    ) -> Result<DeliveryDetails, RegistryError> {
        self.existing_endpoint(principal, endpoint).await?;
        let row = webhook_deliveries::get(&self.db, endpoint, id).await?.ok_or_else(|| not_found(id))?;
        let event = outbox::by_event_ids(&self.db, [row.event_id.as_str()]).await?.pop();
        Ok(DeliveryDetails { event: event.ok_or_else(|| not_found(id))?, row })
    }

    async fn existing_endpoint(&self, principal: &Principal, id: &str) -> Result<(), RegistryError> {
        let found = webhook_endpoints::get(&self.db, &principal.tenant, id).await?;
        let not_found = || RegistryError::NotFound { what: "webhook", name: id.to_owned() };
        found.map(|_| ()).ok_or_else(not_found)
    }
}

fn not_found(id: &str) -> RegistryError {
    RegistryError::NotFound { what: "delivery", name: id.to_owned() }
}
