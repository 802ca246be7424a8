//! The way of settled requests into the database: in batches, never on the way of a token, each until it is there.
//!
//! What happens when: a database that is away is tried again for ever, less often with each try; meanwhile requests are in memory and
//! in the journal, and what they used stays held. A batch whose answer was lost is sent again, which the database takes for what it
//! is. A request that it will never take is set aside in a file and told of, and the others go on.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use souk_protocol::internal::MAX_WRITTEN;
use souk_protocol::{Digest, PoolId, RequestId, RequestRecord, Subject, TenantId, Total};
use tokio::sync::Notify;

use super::holdings::Holdings;
use super::journal::Journal;
use super::posted::Posted;
use super::store::{UsageStore, UsageStoreError};
use crate::crash_points::{self, CrashPoint};
use crate::metrics;

/// How long the first of a batch waits for others.
const BATCH_WAIT: Duration = Duration::from_millis(200);
/// The first pause after a failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What is to be written. One for a gateway.
pub(crate) struct Writer {
    store: Arc<dyn UsageStore>,
    holdings: Arc<Holdings>,
    journal: Arc<Journal>,
    posted: Arc<Posted>,
    pending: Mutex<Pending>,
    rung: Notify,
    /// Nothing waits for others any more.
    closing: AtomicBool,
}

#[derive(Default)]
struct Pending {
    /// Settled requests, oldest first; those of a batch that is being written among them.
    requests: VecDeque<RequestRecord>,
    /// Charged ones among them that were asked for with an `Idempotency-Key`.
    repeats: HashMap<(TenantId, Digest), RequestId>,
    /// Written ones whose totals are not with the store of limits yet.
    uncounted: VecDeque<Count>,
}

/// What is to be told of the written requests of one tenant.
#[derive(Clone)]
struct Count {
    tenant: TenantId,
    totals: Vec<Total>,
    written: Vec<RequestId>,
    /// The pools whose queue is to hear of it, one for each of those.
    pools: Vec<PoolId>,
}

impl Writer {
    pub(super) fn new(
        store: Arc<dyn UsageStore>,
        holdings: Arc<Holdings>,
        journal: Arc<Journal>,
        posted: Arc<Posted>,
    ) -> Self {
        let (pending, rung, closing) = (Mutex::default(), Notify::new(), AtomicBool::new(false));
        Self { store, holdings, journal, posted, pending, rung, closing }
    }

    /// A request is over and in the journal.
    pub(crate) fn push(&self, record: RequestRecord) {
        let mut pending = self.lock();
        if let (Some(repeat), true) = (record.repeat, record.charge() != (0, 0)) {
            pending.repeats.insert((record.tenant.clone(), repeat), record.request.clone());
        }
        pending.requests.push_back(record);
        drop(pending);
        self.rung.notify_one();
    }

    /// Whether a request is neither written nor counted yet.
    pub(crate) fn has(&self, request: &RequestId) -> bool {
        let pending = self.lock();
        pending.requests.iter().any(|record| record.request == *request)
            || pending.uncounted.iter().any(|count| count.written.contains(request))
    }

    /// How many requests are neither written nor counted.
    pub(crate) fn len(&self) -> usize {
        let pending = self.lock();
        pending.requests.len() + pending.uncounted.iter().map(|count| count.written.len()).sum::<usize>()
    }

    /// The charged request with this key that the database may not have yet.
    pub(crate) fn repeated(&self, tenant: &TenantId, repeat: Digest) -> Option<RequestId> {
        self.lock().repeats.get(&(tenant.clone(), repeat)).cloned()
    }

    /// Returns when all is written and counted. Limit the wait: a database may be away.
    pub(super) async fn drain(&self) {
        self.closing.store(true, Ordering::Release);
        while self.len() > 0 {
            self.rung.notify_one();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Writes, for ever.
    pub(super) async fn run(self: Arc<Self>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let batch = self.next_batch().await;
            let is_done = (batch.is_empty() || self.write(&batch).await) & self.tell_counts().await;
            if is_done {
                pause = FIRST_PAUSE;
            } else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// What is to be written next, once there is something to do; it stays among what is pending.
    async fn next_batch(&self) -> Vec<RequestRecord> {
        while self.len() == 0 {
            self.rung.notified().await;
        }
        let wait = tokio::time::sleep(BATCH_WAIT);
        tokio::pin!(wait);
        while !self.closing.load(Ordering::Acquire) && self.lock().requests.len() < MAX_WRITTEN {
            tokio::select! {
                () = self.rung.notified() => {}
                () = &mut wait => break,
            }
        }
        self.lock().requests.iter().take(MAX_WRITTEN).cloned().collect()
    }

    /// Writes a batch; says whether it is done with it. One that is refused is halved, until it is known of which request.
    async fn write(&self, batch: &[RequestRecord]) -> bool {
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            match self.store.write(part).await {
                Ok(totals) => {
                    crash_points::pass(CrashPoint::Written);
                    metrics::usage_written(part.len());
                    self.written(part, counts_of(part, totals));
                }
                Err(UsageStoreError::Refused(reason)) => match part {
                    [] => {}
                    [record] => self.set_aside(record, &reason).await,
                    part => {
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.extend([second, first]);
                    }
                },
                Err(error) => {
                    metrics::usage_write_failed();
                    let cause = &error as &dyn std::error::Error;
                    tracing::warn!(error = cause, requests = part.len(), "usage cannot be written");
                    return false;
                }
            }
        }
        true
    }

    async fn set_aside(&self, record: &RequestRecord, reason: &str) {
        metrics::usage_set_aside();
        let request = &record.request;
        tracing::error!(%request, reason, "The database will never take the usage of this request: it is set aside");
        self.journal.set_aside(record.clone()).await;
        // No total will count it, and nothing is to be held for it for ever.
        let refused = std::slice::from_ref(record);
        self.written(refused, counts_of(refused, Vec::new()));
    }

    /// These are pending no more; their totals are to be told.
    fn written(&self, batch: &[RequestRecord], counts: Vec<Count>) {
        let written: HashSet<&RequestId> = batch.iter().map(|record| &record.request).collect();
        let mut pending = self.lock();
        pending.requests.retain(|record| !written.contains(&record.request));
        pending.repeats.retain(|_, request| !written.contains(request));
        pending.uncounted.extend(counts);
    }

    /// Tells the store of limits what is written, and then the journal; says whether all is told.
    async fn tell_counts(&self) -> bool {
        loop {
            let Some(count) = self.lock().uncounted.front().cloned() else { return true };
            let Count { tenant, totals, written, pools } = count;
            if let Err(error) = self.holdings.count(&tenant, &totals, &written).await {
                tracing::warn!(%error, %tenant, "limits cannot be told what is written");
                // The next tenant's are not held up by it, should its store be another.
                let mut pending = self.lock();
                if let Some(count) = pending.uncounted.pop_front() {
                    pending.uncounted.push_back(count);
                }
                return false;
            }
            crash_points::pass(CrashPoint::Counted);
            self.lock().uncounted.pop_front();
            self.journal.written(written.clone()).await;
            pools.into_iter().zip(written).for_each(|(pool, request)| self.posted.push(pool, [request]));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be told of a batch, by tenant.
fn counts_of(batch: &[RequestRecord], totals: Vec<Total>) -> Vec<Count> {
    let mut counts: Vec<Count> = Vec::new();
    let mut tenants: HashMap<Subject, usize> = HashMap::new();
    for record in batch {
        let place = counts.iter().position(|count| count.tenant == record.tenant).unwrap_or_else(|| {
            let tenant = record.tenant.clone();
            counts.push(Count { tenant, totals: Vec::new(), written: Vec::new(), pools: Vec::new() });
            counts.len() - 1
        });
        counts[place].written.push(record.request.clone());
        // It has a job, and all its jobs one base.
        counts[place].pools.extend(record.jobs.first().map(|job| job.base));
        tenants.extend(record.subjects().into_iter().map(|subject| (subject, place)));
    }
    for total in totals {
        // A total that no record of the batch moved is not asked for.
        if let Some(place) = tenants.get(&total.key.subject) {
            counts[*place].totals.push(total);
        }
    }
    counts
}
