//! The registry's rows as the gateway meets them: written once by their key, summed up by day and month, away at times.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use souk_gateway::{UsageStore, UsageStoreError};
use souk_protocol::{Digest, PeriodKey, RequestId, RequestRecord, TenantId, Total, TotalKey, Unit};

/// Rows, with what they sum up to.
#[derive(Default)]
pub(crate) struct Rows {
    table: Mutex<Table>,
    is_away: AtomicBool,
    /// Whether the next answer to a write is lost on its way.
    loses_answer: AtomicBool,
    num_writes: AtomicUsize,
}

#[derive(Default)]
struct Table {
    requests: BTreeMap<RequestId, RequestRecord>,
    totals: BTreeMap<TotalKey, (u64, u64)>,
    refused: BTreeSet<RequestId>,
}

impl Rows {
    pub(crate) fn go_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::Release);
    }

    pub(crate) fn lose_an_answer(&self) {
        self.loses_answer.store(true, Ordering::Release);
    }

    /// Will never take the rows of this request.
    pub(crate) fn refuse(&self, request: &RequestId) {
        self.lock().refused.insert(request.clone());
    }

    /// How often something was written or tried to be.
    pub(crate) fn num_writes(&self) -> usize {
        self.num_writes.load(Ordering::Acquire)
    }

    /// All requests that are written, oldest first.
    pub(crate) fn all(&self) -> Vec<RequestRecord> {
        self.lock().requests.values().cloned().collect()
    }

    /// Waits until so many requests are written.
    pub(crate) async fn wait_for(&self, num_requests: usize) -> Vec<RequestRecord> {
        for _ in 0..1000 {
            let all = self.all();
            if all.len() >= num_requests {
                assert_eq!(all.len(), num_requests, "each request is written once: {all:?}");
                return all;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} of {num_requests} requests are written", self.all().len());
    }

    /// What all of them are charged.
    pub(crate) fn charged(&self) -> (u64, u64) {
        self.all().iter().map(RequestRecord::charge).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap()
    }

    fn answer<T>(&self, answer: T) -> Result<T, UsageStoreError> {
        if self.is_away.load(Ordering::Acquire) {
            return Err(UsageStoreError::Unavailable("the database is away".into()));
        }
        Ok(answer)
    }
}

impl Table {
    fn total(&self, key: &TotalKey) -> Total {
        let (amount, version) = self.totals.get(key).copied().unwrap_or_default();
        Total { key: key.clone(), amount, version }
    }
}

/// The sums that a request moves.
fn keys(record: &RequestRecord) -> Vec<TotalKey> {
    let periods = [PeriodKey::day(record.admitted_at_ms), PeriodKey::month(record.admitted_at_ms)];
    let subjects = record.subjects().into_iter();
    subjects
        .flat_map(|subject| periods.map(|period| TotalKey { subject: subject.clone(), period, unit: Unit::Tokens }))
        .collect()
}

#[async_trait]
impl UsageStore for Rows {
    async fn write(&self, requests: &[RequestRecord]) -> Result<Vec<Total>, UsageStoreError> {
        self.num_writes.fetch_add(1, Ordering::AcqRel);
        self.answer(())?;
        let mut table = self.lock();
        if requests.iter().any(|record| table.refused.contains(&record.request)) {
            return Err(UsageStoreError::Refused("no such base".to_owned()));
        }
        let mut moved = BTreeSet::new();
        for record in requests {
            moved.extend(keys(record));
            if table.requests.contains_key(&record.request) {
                // It is left as it is.
                continue;
            }
            table.requests.insert(record.request.clone(), record.clone());
            let (input, output) = record.charge();
            for key in keys(record) {
                let (amount, version) = table.totals.entry(key).or_default();
                (*amount, *version) = (*amount + input + output, *version + 1);
            }
        }
        if self.loses_answer.swap(false, Ordering::AcqRel) {
            return Err(UsageStoreError::Unavailable("the connection broke".into()));
        }
        Ok(moved.iter().map(|key| table.total(key)).collect())
    }

    async fn totals(&self, keys: &[TotalKey]) -> Result<Vec<Total>, UsageStoreError> {
        let table = self.lock();
        self.answer(keys.iter().map(|key| table.total(key)).collect())
    }

    async fn repeated(&self, tenant: &TenantId, repeat: Digest) -> Result<Option<RequestId>, UsageStoreError> {
        let all = self.all();
        let charged = all
            .iter()
            .find(|record| record.tenant == *tenant && record.repeat == Some(repeat) && record.charge() != (0, 0));
        self.answer(charged.map(|record| record.request.clone()))
    }
}
