//! A request that is about to be queued, as the journal keeps it, and the queue for whoever is to write down what another gateway
//! has left.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use souk_protocol::{Digest, JobId, JobRecord, Outcome, PoolId, RequestRecord, Usage};
use souk_queue::{Orphan, OrphanJob};

/// Most jobs that are believed of a request of another gateway's.
const MOST_JOBS: usize = 65_536;

/// All that is known of a request before its jobs are queued: enough to say what became of it should nothing more be heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Opened {
    /// Who asked for what; without jobs yet, and with an end that is its beginning.
    pub(crate) head: RequestRecord,
    /// The pool that its jobs go to.
    pub(crate) base: PoolId,
    /// The versions that act, in order of application.
    pub(crate) adapters: Vec<Digest>,
    /// Tokens of each prompt.
    pub(crate) prompts: Vec<u32>,
    /// Choices of each.
    pub(crate) choices: u32,
}

/// Why an account of another gateway's says nothing of its request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadAccount {
    #[error("it cannot be read")]
    Unreadable(#[from] serde_json::Error),
    #[error("it is of the request {0}")]
    OfAnother(String),
    #[error("it is of {given} jobs; at most {MOST_JOBS} are believed")]
    TooLong { given: usize },
    #[error("it is of {given} jobs, and the job {index} was queued")]
    TooShort { given: usize, index: u32 },
}

impl Opened {
    /// What any gateway can write the request down with.
    pub(crate) fn account(&self) -> Bytes {
        serde_json::to_vec(self).expect("it is a struct with string keys").into()
    }

    /// The record of a request that another gateway has left. Of its jobs, those that were never queued are free.
    ///
    /// # Errors
    /// [`BadAccount`] if what came with it is no account of this request.
    pub(crate) fn left(orphan: &Orphan, now_ms: u64) -> Result<RequestRecord, BadAccount> {
        let opened: Self = serde_json::from_slice(&orphan.account)?;
        if opened.head.request != orphan.request {
            return Err(BadAccount::OfAnother(opened.head.request.to_string()));
        }
        let given = opened.prompts.len().saturating_mul(opened.choices as usize);
        if given > MOST_JOBS {
            return Err(BadAccount::TooLong { given });
        }
        let mut record = opened.lost(now_ms);
        for ended in &orphan.jobs {
            let job = record.jobs.get_mut(ended.index as usize);
            take_in(job.ok_or(BadAccount::TooShort { given, index: ended.index })?, ended);
        }
        count_prompts(&mut record.jobs, opened.choices);
        Ok(record)
    }

    /// The record of a request whose jobs were settled.
    pub(crate) fn settled(&self, mut jobs: Vec<JobRecord>, ended_at_ms: u64) -> RequestRecord {
        jobs.sort_by_key(|job| job.job.index);
        RequestRecord { jobs, ended_at_ms: ended_at_ms.max(self.head.admitted_at_ms), ..self.head.clone() }
    }

    /// The record of a request of which nothing more was heard, since its process died: our error, and free.
    pub(crate) fn lost(&self, now_ms: u64) -> RequestRecord {
        let jobs = self.prompts.iter().flat_map(|tokens| std::iter::repeat_n(*tokens, self.choices as usize));
        let jobs = (0..).zip(jobs).map(|(index, prompt_tokens)| JobRecord {
            job: JobId { request: self.head.request.clone(), index },
            tenant: self.head.tenant.clone(),
            base: self.base,
            adapters: self.adapters.clone(),
            outcome: Outcome::Failed,
            usage: Usage { prompt_tokens, ..Usage::default() },
            delivered_tokens: 0,
            attempts: 0,
            first_token_after: None,
            took: Duration::ZERO,
            counts_prompt: false,
        });
        self.settled(jobs.collect(), now_ms)
    }
}

/// What is known of a job of another gateway's.
fn take_in(job: &mut JobRecord, ended: &OrphanJob) {
    let OrphanJob { settled, delivered_tokens, .. } = ended;
    // A node settles an answer when its gateway has the last event, and so all that it computed.
    let was_taken = settled.untold.is_none() && settled.outcome != Outcome::CallerLeft;
    let computed = settled.usage.completion_tokens;
    job.delivered_tokens = if was_taken { computed } else { *delivered_tokens };
    job.outcome = settled.outcome.after(job.delivered_tokens);
    job.attempts = settled.attempts;
    job.usage = Usage {
        completion_tokens: computed.max(job.delivered_tokens),
        prefill_began: settled.usage.prefill_began || job.delivered_tokens > 0,
        ..settled.usage
    };
}

/// Of the jobs of one prompt the first that is charged for it counts it.
fn count_prompts(jobs: &mut [JobRecord], choices: u32) {
    for of_prompt in jobs.chunks_mut(choices.max(1) as usize) {
        let charged = |job: &&mut JobRecord| job.outcome.charge(job.usage, job.delivered_tokens).input_tokens > 0;
        if let Some(first) = of_prompt.iter_mut().find(charged) {
            first.counts_prompt = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use souk_protocol::RequestId;
    use souk_queue::Settled;

    use super::*;
    use crate::usage::journal::examples::opened;

    fn ended(index: u32, outcome: Outcome, computed: u32, delivered_tokens: u32) -> OrphanJob {
        let prefill_began = computed > 0;
        let usage = Usage { prompt_tokens: 3, cached_tokens: 0, completion_tokens: computed, prefill_began };
        OrphanJob { index, settled: Settled { outcome, usage, attempts: 1, untold: None }, delivered_tokens }
    }

    fn orphan(jobs: Vec<OrphanJob>) -> Orphan {
        Orphan { request: RequestId::from_stored("req_1"), account: opened("req_1").account(), jobs }
    }

    #[test]
    fn what_a_gateway_has_left_is_charged_by_what_it_delivered_and_each_prompt_once() {
        let jobs = vec![
            // It was cut off before the first word that its gateway said of it.
            ended(0, Outcome::CallerLeft, 0, 0),
            ended(1, Outcome::CallerLeft, 9, 4),
            ended(2, Outcome::Stop, 8, 5),
        ];
        let record = Opened::left(&orphan(jobs), 1_796_083_200_500).unwrap();
        let charges: Vec<_> =
            record.jobs.iter().map(|job| (job.charge().input_tokens, job.charge().output_tokens)).collect();
        assert_eq!(charges, [(0, 0), (3, 4), (3, 8), (0, 0)]);
        let outcomes: Vec<_> = record.jobs.iter().map(|job| job.outcome).collect();
        assert_eq!(outcomes, [Outcome::CallerLeft, Outcome::CallerLeft, Outcome::Stop, Outcome::Failed]);
    }

    #[test]
    fn an_account_of_another_request_or_of_fewer_jobs_is_refused() {
        let of_another = Orphan { request: RequestId::from_stored("req_2"), ..orphan(Vec::new()) };
        assert!(matches!(Opened::left(&of_another, 0), Err(BadAccount::OfAnother(_))));
        let too_short = orphan(vec![ended(4, Outcome::Stop, 1, 1)]);
        assert!(matches!(Opened::left(&too_short, 0), Err(BadAccount::TooShort { given: 4, index: 4 })));
        let mut endless = opened("req_1");
        endless.choices = u32::MAX;
        let endless = Orphan { account: endless.account(), ..orphan(Vec::new()) };
        assert!(matches!(Opened::left(&endless, 0), Err(BadAccount::TooLong { .. })));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_the_reader_of_accounts(bytes: Vec<u8>, at in proptest::prelude::any::<proptest::sample::Index>(), byte: u8) {
            let jobs = vec![ended(0, Outcome::Stop, 1, 1)];
            let _ = Opened::left(&Orphan { account: bytes.into(), ..orphan(jobs.clone()) }, 0);
            let mut account = opened("req_1").account().to_vec();
            let at = at.index(account.len());
            account[at] = byte;
            if let Ok(record) = Opened::left(&Orphan { account: account.into(), ..orphan(jobs) }, 0) {
                proptest::prop_assert_eq!(record.request, RequestId::from_stored("req_1"));
            }
        }
    }
}
