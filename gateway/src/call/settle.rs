//! The end of every job, in one place: what was computed and what was delivered, once, also when a
//! client left, a node was lost or a stream broke.
//!
//! An [`Account`] is opened before its job is submitted and lives as long as somebody follows the job. When it is
//! dropped a task of its own takes over: it cancels what still runs, waits for the settlement, which the queue hands
//! over for every job that was queued, and books it with its request's reservation. At most as many accounts are open as there are
//! places for requests, since each holds its request's place; a settlement that does not come within [`SETTLED_WITHIN`] is
//! replaced by what was seen here.
//!
//! What happens when: the queue says how each job ended once, and [`book`] runs once per account, so nothing counts
//! twice. A job whose submission was refused was never queued and is not counted. If this process dies, another gateway is given how
//! the jobs ended that it has not booked, with what it has told the queue to have delivered ([`left`](super::left)); should the
//! queue know nothing of them, they are free.

use std::sync::Arc;
use std::time::Duration;

use souk_protocol::{Digest, GenerateJob, JobFailure, JobId, JobRecord, Outcome, PoolId, TenantId, TokenId, Usage};
use souk_queue::{JobQueue, Settled};
use tokio::time::Instant;

use super::book::book;
use super::open_jobs::{Asked, Ending, Listener, News, OpenJobs};
use super::reservation::SharedReservation;
use crate::error::ApiError;

/// How long after the end of its answer a job may take to be settled. Longer than a lease (15 s by default), after
/// which the queue settles what a lost node cannot.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);

/// What is known of a job here. Dropping it ends the job and has it settled.
pub(crate) struct Account {
    /// `None` once it is dropped.
    open: Option<Open>,
}

struct Open {
    queue: Arc<dyn JobQueue>,
    listener: Listener,
    job: JobId,
    tenant: TenantId,
    pool: PoolId,
    adapters: Arc<[Digest]>,
    ending: Arc<Ending>,
    opened: Instant,
    first_token_after: Option<Duration>,
    prompt_tokens: u32,
    prefill_began: bool,
    delivered: u32,
    /// How the job ended, as it looked from here.
    outcome: Option<Outcome>,
    /// How the queue says that it ended.
    settled: Option<Settled>,
    stage: Stage,
    reservation: SharedReservation,
}

/// Whether a node may work on a job without knowing that it is to stop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not known to be on the queue.
    Unsubmitted,
    /// On the queue or with a node.
    Underway,
    /// Over, or told to stop.
    Ending,
}

/// What an account is opened with.
pub(crate) struct Opening<'a> {
    pub(crate) queue: &'a Arc<dyn JobQueue>,
    pub(crate) open_jobs: &'a OpenJobs,
    pub(crate) job: &'a GenerateJob,
    /// Who asks.
    pub(crate) asked: &'a Arc<Asked>,
    pub(crate) reservation: SharedReservation,
}

impl Account {
    /// Opens the account of a job that is about to be submitted.
    ///
    /// # Errors
    /// If one of its adapters was taken down since it was resolved, for all or for its tenant, or its key revoked since it was
    /// checked.
    pub(crate) fn open(opening: Opening<'_>, ending: Arc<Ending>) -> Result<Self, ApiError> {
        let Opening { queue, open_jobs, job, asked, reservation } = opening;
        let adapters: Arc<[Digest]> = job.adapters.iter().map(|adapter| adapter.digest).collect();
        let listener = open_jobs
            .open(job.id.clone(), job.pool, Arc::clone(asked), Arc::clone(&adapters), Arc::clone(&ending))
            .map_err(|withdrawn| ApiError::Job(withdrawn.into()))?;
        let open = Open {
            queue: Arc::clone(queue),
            listener,
            job: job.id.clone(),
            tenant: job.tenant.clone(),
            pool: job.pool,
            adapters,
            ending,
            opened: Instant::now(),
            first_token_after: None,
            prompt_tokens: u32::try_from(job.prompt.len()).unwrap_or(u32::MAX),
            prefill_began: false,
            delivered: 0,
            outcome: None,
            settled: None,
            stage: Stage::Unsubmitted,
            reservation,
        };
        Ok(Self { open: Some(open) })
    }

    /// The queue has taken the job.
    pub(crate) fn submitted(&mut self) {
        self.state().stage = Stage::Underway;
    }

    /// A node took the job into its batch.
    pub(crate) fn began(&mut self) {
        self.state().prefill_began = true;
    }

    /// So many tokens have come.
    pub(crate) fn delivered(&mut self, num_tokens: usize) {
        let open = self.state();
        open.first_token_after.get_or_insert_with(|| open.opened.elapsed());
        open.delivered += u32::try_from(num_tokens).unwrap_or(u32::MAX);
        open.listener.delivered(open.delivered);
    }

    /// So many of the tokens that came last came after the end of the answer.
    pub(crate) fn take_back(&mut self, num_tokens: usize) {
        let open = self.state();
        open.delivered -= u32::try_from(num_tokens).unwrap_or(u32::MAX).min(open.delivered);
        open.listener.delivered(open.delivered);
    }

    /// The answer has ended. The first word counts.
    pub(crate) fn ended(&mut self, outcome: Outcome) {
        self.state().outcome.get_or_insert(outcome);
    }

    /// A hook has failed, or refused the answer, and with it the whole request: the last word counts.
    pub(crate) fn overruled(&mut self, outcome: Outcome) {
        let open = self.state();
        open.outcome = Some(outcome);
        open.ending.set(outcome);
    }

    /// The answer has failed, and with it the whole request: its other jobs are of no use without this one.
    pub(crate) fn failed(&mut self, failure: &JobFailure) {
        let open = self.state();
        let outcome = failure.outcome(open.delivered);
        open.outcome.get_or_insert(outcome);
        open.ending.set(outcome);
    }

    /// How the request was ended as a whole, if it was.
    pub(crate) fn ended_as_a_whole(&self) -> Option<Outcome> {
        self.open.as_ref().and_then(|open| open.ending.outcome())
    }

    /// No node works on the job any more.
    pub(crate) fn over(&mut self) {
        let open = self.state();
        open.stage = Stage::Ending;
        open.listener.let_go();
    }

    /// The queue has settled the job while it was still followed.
    pub(crate) fn settled(&mut self, settled: Settled) {
        let open = self.state();
        open.stage = Stage::Ending;
        open.listener.let_go();
        open.settled = Some(settled);
    }

    /// What the queue says next.
    pub(crate) async fn news(&mut self) -> News {
        self.state().listener.next().await
    }

    /// Tells the queue that the job is no longer wanted, if that is news to it. Returns whether that was to be said and
    /// was.
    pub(crate) async fn cancel(&mut self) -> bool {
        self.state().cancel().await
    }

    /// Hands in the tokens that are here, for the next node to go on from. Should the queue not take them, the node
    /// generates them again and the fence drops what is repeated.
    pub(crate) async fn resume(&mut self, tokens: Vec<TokenId>) {
        let open = self.state();
        if let Err(error) = open.queue.resume(open.pool, &open.job, tokens).await {
            tracing::warn!(%error, job = %open.job, "cannot hand in tokens to resume from");
        }
    }

    const fn state(&mut self) -> &mut Open {
        self.open.as_mut().expect("it is taken on drop alone")
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        // Without a runtime the process is ending, and the queue's memory with it.
        if let (Some(open), Ok(runtime)) = (self.open.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(open.close());
        }
    }
}

impl Open {
    /// Follows the job to its settlement.
    async fn close(mut self) {
        self.listener.let_go();
        let took = self.opened.elapsed();
        let was_queued = self.stage != Stage::Unsubmitted;
        if !was_queued {
            // The submission was refused, or broken off and perhaps not: then nobody waits for the job.
            self.stage = Stage::Underway;
        }
        self.cancel().await;
        if !was_queued {
            return;
        }
        let settled = tokio::time::timeout(SETTLED_WITHIN, self.wait_until_settled()).await;
        if settled.is_err() {
            tracing::warn!(job = %self.job, "the job was not settled in time; it counts with what was seen of it");
        }
        let record = self.record(settled.ok(), took);
        book(&self.reservation.book(record));
    }

    async fn cancel(&mut self) -> bool {
        if self.stage == Stage::Ending {
            return false;
        }
        self.listener.let_go();
        match self.queue.cancel(self.pool, &self.job).await {
            Ok(_) => {
                self.stage = Stage::Ending;
                true
            }
            Err(error) => {
                tracing::warn!(%error, job = %self.job, "cannot cancel a job");
                false
            }
        }
    }

    async fn wait_until_settled(&mut self) -> Settled {
        loop {
            if let Some(settled) = self.settled.take() {
                return settled;
            }
            match self.listener.next().await {
                News::Settled(settled) => return settled,
                News::Requeued => {
                    self.stage = Stage::Underway;
                    self.cancel().await;
                }
                News::End => {}
            }
        }
    }

    fn record(&self, settled: Option<Settled>, took: Duration) -> JobRecord {
        // What the caller met comes before what the node met: it may have gone on a little.
        let outcome = self.outcome.or_else(|| self.ending.outcome()).unwrap_or(Outcome::CallerLeft);
        let seen = Usage {
            prompt_tokens: self.prompt_tokens,
            cached_tokens: 0,
            completion_tokens: self.delivered,
            prefill_began: self.prefill_began || self.delivered > 0,
        };
        let (usage, attempts) = settled.map_or((seen, 1), |settled| (settled.usage, settled.attempts));
        JobRecord {
            job: self.job.clone(),
            tenant: self.tenant.clone(),
            base: self.pool,
            adapters: self.adapters.to_vec(),
            outcome: outcome.after(self.delivered),
            usage: Usage {
                completion_tokens: usage.completion_tokens.max(seen.completion_tokens),
                prefill_began: usage.prefill_began || seen.prefill_began,
                ..usage
            },
            delivered_tokens: self.delivered,
            attempts,
            first_token_after: self.first_token_after,
            took,
            // The reservation says it, which knows the other choices.
            counts_prompt: false,
        }
    }
}
