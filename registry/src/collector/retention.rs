//! Removing what is kept no longer, in pieces, so that no transaction is long.

use super::Collector;
use crate::db::{
    audit_entries, begin_row_write, ms_ago, outbox, published_heads, webhook_deliveries, webhook_endpoints,
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
}
