//! Removing what is kept no longer, in pieces, so that no transaction is long.

use souk_protocol::limits::PeriodKey;

use super::Collector;
use crate::db::{
    audit_entries, begin_row_write, ms_ago, outbox, published_heads, usage_days, usage_requests, webhook_deliveries,
    webhook_endpoints,
};
use crate::error::RegistryError;
use crate::metrics;

/// Rows that are removed at a time.
const AT_ONCE: u64 = 500;

impl Collector {
    /// Removes events that are old, and what deleted webhooks have left: each round a piece.
    pub(super) async fn remove_old_events(&self) -> Result<(), RegistryError> {
        let before_ms = ms_ago(self.settings.events_kept);
        let old = outbox::first_before(&self.db, before_ms, AT_ONCE).await?;
        if !old.is_empty() {
            let transaction = begin_row_write(&self.db).await?;
            webhook_deliveries::delete_of_events(&transaction, &old).await?;
            outbox::delete(&transaction, &old).await?;
            transaction.commit().await?;
            metrics::collected("event", old.len());
        }
        for endpoint in webhook_endpoints::deleted(&self.db).await? {
            if webhook_deliveries::delete_some_of(&self.db, &endpoint, AT_ONCE).await? < AT_ONCE {
                webhook_endpoints::remove(&self.db, &endpoint).await?;
            }
        }
        Ok(())
    }

    /// Removes entries of chains that are older than they are kept, up to a published head each, so that what is left can be
    /// verified from there on.
    pub(super) async fn remove_old_entries(&self) -> Result<(), RegistryError> {
        let Some(kept) = self.settings.audit_kept else { return Ok(()) };
        let (before_ms, mut after) = (ms_ago(kept), String::new());
        while let Some((chain, up_to)) = published_heads::first_old(&self.db, &after, before_ms).await? {
            loop {
                let num_removed = audit_entries::delete_some(&self.db, &chain, up_to, AT_ONCE).await?;
                metrics::collected("audit_entry", usize::try_from(num_removed).unwrap_or(usize::MAX));
                if num_removed < AT_ONCE {
                    break;
                }
            }
            after = chain;
        }
        Ok(())
    }

    /// Removes requests with their jobs that were admitted on days which are longer ago than they are kept. The sums of those
    /// days are closed in the same transaction: from then on they are all that is known, and `souk check` leaves them alone.
    pub(super) async fn remove_old_usage(&self) -> Result<(), RegistryError> {
        let first_kept = PeriodKey::day(u64::try_from(ms_ago(self.settings.usage_kept)).unwrap_or_default());
        let before_ms = i64::try_from(first_kept.begins_at_ms()).unwrap_or_default();
        let mut after = String::new();
        while let Some(tenant) = usage_requests::next_tenant(&self.db, &after).await? {
            loop {
                let old = usage_requests::first_before(&self.db, &tenant, before_ms, AT_ONCE).await?;
                if old.is_empty() {
                    break;
                }
                let transaction = begin_row_write(&self.db).await?;
                // All that is in `old` was summed up before it was read, so that no sum of it is left open.
                usage_days::close_before(&transaction, &tenant, &first_kept.to_string()).await?;
                usage_requests::delete(&transaction, &old).await?;
                transaction.commit().await?;
                metrics::collected("usage", old.len());
            }
            after = tenant;
        }
        Ok(())
    }
}
