//! Writing requests: their rows, what they add up to and what is told of that, in one transaction.
//!
//! Writers of the same sums wait for each other, and none deadlocks: all write requests by the order of their ids, then days,
//! then totals by the order of their keys. A transaction that the database ended for others to go on is tried again.

use std::collections::BTreeSet;
use std::time::Duration;

use souk_protocol::{Digest, RequestId, RequestRecord, TenantId, Total, TotalKey};

use super::rows::{self, Batch, added, days, job_rows, request_row, total_keys};
use super::thresholds;
use super::totals::{key_of, totals};
use crate::Registry;
use crate::db::{begin_row_write, hook_days, ms_ago, usage_days, usage_jobs, usage_requests, usage_totals};
use crate::error::{RegistryError, is_never_taken};

/// How often a batch is tried before whoever sent it is told to come back.
const TRIES: u32 = 4;
/// The pause before the second try, and the further one before each later one.
const PAUSE: Duration = Duration::from_millis(20);
/// For how long an `Idempotency-Key` is remembered.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

impl Registry {
    /// Writes requests, each with all its jobs or not at all, moves the sums of their days and the totals of their days and
    /// months, and emits `limit.reached` for each threshold that a total passes, in one transaction. What is there already is
    /// left as it is and counts no second time. Answers the totals that `requests` belong to, as they are then.
    ///
    /// A process that ends before the commit has written nothing, one that ends after it everything, and the same batch sent
    /// again changes nothing: its sender cannot tell the two apart and need not.
    ///
    /// # Errors
    /// `invalid_usage` for a record that no gateway makes, or that the database has no room for in a column or a key; then nothing
    /// was written. What the database says: then nothing was
    /// written, or all was and is not known.
    pub async fn write_usage(&self, requests: &[RequestRecord]) -> Result<Vec<Total>, RegistryError> {
        let batch = Batch::of(requests)?;
        let mut tried = 1;
        loop {
            match self.write_batch(&batch).await {
                Err(RegistryError::Busy(_)) if tried < TRIES => tokio::time::sleep(PAUSE * tried).await,
                Err(RegistryError::Database(error)) if is_never_taken(&error) => {
                    return Err(RegistryError::bad_request(
                        "invalid_usage",
                        format!("the database cannot take it: {error}"),
                    ));
                }
                done => return done,
            }
            tried += 1;
        }
    }

    async fn write_batch(&self, batch: &Batch<'_>) -> Result<Vec<Total>, RegistryError> {
        let rows: Vec<_> = batch.records().map(request_row).collect();
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let keys: BTreeSet<TotalKey> = batch.records().flat_map(total_keys).collect();
        let keys: Vec<_> = keys.into_iter().collect();
        let transaction = begin_row_write(&self.db).await?;
        let new = usage_requests::insert_new(&transaction, &rows).await?;
        let new: Vec<_> = batch.records().filter(|request| new.contains(request.request.as_str())).collect();
        let jobs: Vec<_> = new.iter().flat_map(|request| job_rows(request)).collect();
        usage_jobs::insert(&transaction, &jobs).await?;
        usage_days::add(&transaction, &days(new.iter().copied())).await?;
        hook_days::add(&transaction, &rows::hook_days(new.iter().copied())).await?;
        let moved = usage_totals::add(&transaction, &added(new.iter().copied())).await?;
        thresholds::tell(&transaction, &self.config.limits, &new, &moved).await?;
        // Those that did not move, too: they tell their gateway what became of a batch whose answer was lost.
        let of_keys: Vec<_> = keys.iter().map(key_of).collect();
        let sums = usage_totals::get(&transaction, &of_keys).await?;
        transaction.commit().await?;
        Ok(totals(&keys, &sums))
    }

    /// The request of a tenant that had this [`RequestRecord::repeat`] within a day, if it was charged.
    ///
    /// # Errors
    /// What the database says.
    pub async fn repeated_request(
        &self,
        tenant: &TenantId,
        repeat: Digest,
    ) -> Result<Option<RequestId>, RegistryError> {
        let since_ms = ms_ago(REMEMBERED);
        let found = usage_requests::repeated(&self.db, tenant, &repeat.to_string(), since_ms).await?;
        Ok(found.map(RequestId::from_stored))
    }
}
