//! A request that is about to be queued, as the journal keeps it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use souk_protocol::{Digest, JobId, JobRecord, Outcome, PoolId, RequestRecord, Usage};

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

impl Opened {
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
