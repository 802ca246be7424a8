//! The way to rows of usage where registries are elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use souk_gateway::usage::{UsageStore, UsageStoreError};
use souk_protocol::internal::{GetRepeated, GetTotals, MAX_TOTALS, MAX_WRITTEN, Totals, WriteUsage};
use souk_protocol::{Digest, RequestId, RequestRecord, TenantId, Total, TotalKey};

use crate::registries::{ANSWER_TIME, AskError, Registries};

/// How long a registry has to write. Writers of one tenant wait for each other there, and a database that was away takes
/// its time; the journal has the rows meanwhile.
const WRITE_TIME: Duration = Duration::from_secs(10);

/// Refusals of a record that no registry will ever take.
const FOR_GOOD: &[&str] = &["invalid_usage", "invalid_text"];

/// Most jobs that are sent at once, unless one request has more: about 3 MB.
const JOBS_AT_ONCE: usize = 5000;

/// A [`UsageStore`] whose registries are elsewhere. Whoever answers first writes. An answer that was lost is no loss: what is
/// asked of the next registry, or again later, is written once.
pub struct HttpUsage(Registries);

impl HttpUsage {
    /// Writes by these registries.
    #[must_use]
    pub const fn new(registries: Registries) -> Self {
        Self(registries)
    }
}

#[async_trait]
impl UsageStore for HttpUsage {
    async fn write(&self, requests: &[RequestRecord]) -> Result<Vec<Total>, UsageStoreError> {
        let mut totals = BTreeMap::<_, Total>::new();
        for some in pieces(requests) {
            let question = WriteUsage { requests: some.to_vec() };
            let written = self.0.tell::<Totals>("usage", &question, WRITE_TIME, FOR_GOOD).await.map_err(unavailable)?;
            let written = written.map_err(UsageStoreError::Refused)?;
            // Of two of one sum the later one is of the later piece.
            totals.extend(written.totals.into_iter().map(|total| (total.key.clone(), total)));
        }
        Ok(totals.into_values().collect())
    }

    async fn totals(&self, keys: &[TotalKey]) -> Result<Vec<Total>, UsageStoreError> {
        let mut totals = Vec::with_capacity(keys.len());
        for some in keys.chunks(MAX_TOTALS) {
            let question = GetTotals { keys: some.to_vec() };
            let found = self.0.ask::<Totals>("usage/totals", &question, ANSWER_TIME).await.map_err(unavailable)?;
            totals.extend(found.answer.totals);
        }
        Ok(totals)
    }

    async fn repeated(&self, tenant: &TenantId, repeat: Digest) -> Result<Option<RequestId>, UsageStoreError> {
        let question = GetRepeated { tenant: tenant.clone(), repeat };
        let found = self.0.ask("usage/repeated", &question, ANSWER_TIME).await.map_err(unavailable)?;
        Ok(found.answer)
    }
}

/// Requests in pieces that a registry takes at once, in their order.
fn pieces(requests: &[RequestRecord]) -> Vec<&[RequestRecord]> {
    let (mut pieces, mut from, mut num_jobs) = (Vec::new(), 0, 0);
    for (at, request) in requests.iter().enumerate() {
        let is_full = at - from == MAX_WRITTEN || num_jobs + request.jobs.len() > JOBS_AT_ONCE;
        if at > from && is_full {
            pieces.push(&requests[from..at]);
            (from, num_jobs) = (at, 0);
        }
        num_jobs += request.jobs.len();
    }
    if from < requests.len() {
        pieces.push(&requests[from..]);
    }
    pieces
}

fn unavailable(error: AskError) -> UsageStoreError {
    UsageStoreError::Unavailable(error.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use souk_protocol::{JobId, JobRecord, KeyId, Outcome, PoolId, Usage};

    use super::*;

    fn request(num_jobs: u32) -> RequestRecord {
        let (request, tenant) = (RequestId::new(), TenantId::from_stored("ten_1"));
        let job = |index| JobRecord {
            job: JobId { request: request.clone(), index },
            tenant: tenant.clone(),
            base: PoolId(Digest::of(b"base")),
            adapters: Vec::new(),
            outcome: Outcome::Stop,
            usage: Usage::default(),
            delivered_tokens: 0,
            attempts: 1,
            first_token_after: None,
            took: Duration::ZERO,
            counts_prompt: index == 0,
        };
        RequestRecord {
            jobs: (0..num_jobs).map(job).collect(),
            key: KeyId::from_stored("key_1"),
            person: None,
            team: None,
            operation: "chat.completion".to_owned(),
            model: "tiny".to_owned(),
            admitted_at_ms: 0,
            ended_at_ms: 0,
            repeat: None,
            shadowed: Vec::new(),
            hooks: Vec::new(),
            request: request.clone(),
            tenant: tenant.clone(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn pieces_are_all_requests_in_their_order_and_none_is_more_than_is_taken(
            sizes in prop::collection::vec(prop_oneof![20 => 1..4_u32, 1 => 2000..6000_u32], 0..1200),
        ) {
            let requests: Vec<_> = sizes.into_iter().map(request).collect();
            let pieces = pieces(&requests);
            for piece in &pieces {
                let num_jobs: usize = piece.iter().map(|request| request.jobs.len()).sum();
                prop_assert!((1..=MAX_WRITTEN).contains(&piece.len()));
                prop_assert!(num_jobs <= JOBS_AT_ONCE || piece.len() == 1);
            }
            prop_assert!(pieces.concat() == requests);
        }
    }
}
