//! A job on the queue, as the gateway follows it.

use std::sync::Arc;
use std::time::Duration;

use souk_protocol::{GenerateJob, JobEvent, JobFailure, JobId, NodeId, PoolId, TokenId};
use souk_queue::{EventHub, JobQueue, OutcomeKind, Submission, Subscription, Weight};
use tokio::time::Instant;

use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::outcomes::Listener;

/// How much later than its deadline a job is given up here. The node ends it at the deadline and says so; this is for a
/// node that is lost while the queue cannot be reached.
const GRACE: Duration = Duration::from_secs(5);
/// How long to wait for the last counts of a job that was ended early.
const LAST_COUNTS: Duration = Duration::from_millis(100);

/// A submitted job. Dropping it before its last event cancels it, so that it leaves the batch: the client went away, or
/// the answer is complete.
pub(crate) struct RunningJob {
    events: Subscription,
    outcomes: Listener,
    guard: CancelOnDrop,
    /// The answer so far, to go on from should the node be lost.
    tokens: Vec<TokenId>,
    give_up_at: Instant,
}

impl RunningJob {
    /// Listens to `job` and puts it on the queue.
    pub(crate) async fn submit(
        gateway: &Gateway,
        job: GenerateJob,
        lane: Option<NodeId>,
        weight: Weight,
        deadline: Instant,
    ) -> Result<Self, ApiError> {
        let (id, pool) = (job.id.clone(), job.pool);
        let events = gateway.hub().subscribe(id.clone(), EventHub::capacity_for(&job));
        let outcomes = gateway.outcomes().listen(id.clone());
        let guard = CancelOnDrop { queue: Arc::clone(gateway.queue()), pool, job: id, over: false };
        let submission = Submission { job, lane, reply_to: gateway.id().clone(), weight };
        let mut running = Self { events, outcomes, guard, tokens: Vec::new(), give_up_at: deadline + GRACE };
        if let Err(error) = gateway.queue().submit(submission).await {
            running.guard.over = true;
            return Err(error.into());
        }
        Ok(running)
    }

    /// The next event of the live attempt. After the last event it never returns again.
    pub(crate) async fn next(&mut self) -> JobEvent {
        loop {
            let event = tokio::select! {
                biased;
                event = self.events.next() => match event {
                    Some((_, event)) => event,
                    // Another subscription took this job's place, which the unique ids rule out.
                    None => JobEvent::Failed(JobFailure::Internal("the event stream was closed".to_owned())),
                },
                outcome = self.outcomes.next() => match self.after(outcome).await {
                    Some(failure) => JobEvent::Failed(failure),
                    None => continue,
                },
                () = tokio::time::sleep_until(self.give_up_at), if !self.guard.over => {
                    return JobEvent::Failed(JobFailure::DeadlineExceeded);
                }
            };
            if let JobEvent::Tokens { tokens, .. } = &event {
                self.tokens.extend(tokens.iter().map(|token| token.id));
            }
            self.guard.over = self.guard.over || event.is_last();
            return event;
        }
    }

    /// Ends the job before its time and returns how many tokens of its prompt were reused, as far as its node still
    /// says.
    pub(crate) async fn end_early(&mut self) -> u32 {
        if self.guard.over {
            return 0;
        }
        if let Err(error) = self.guard.queue.cancel(self.guard.pool, &self.guard.job).await {
            // The guard tries again when it is dropped.
            tracing::warn!(error = %error, job = %self.guard.job, "cannot cancel a job");
            return 0;
        }
        let last_counts = async {
            loop {
                match self.next().await {
                    JobEvent::Finished { usage, .. } => return usage.cached_tokens,
                    JobEvent::Failed(_) => return 0,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(LAST_COUNTS, last_counts).await.unwrap_or(0)
    }

    async fn after(&mut self, outcome: OutcomeKind) -> Option<JobFailure> {
        match outcome {
            OutcomeKind::Requeued => {
                // The next node goes on where the last one stopped. Should the queue not take the tokens, the node
                // generates them again and the fence drops what is repeated.
                let resume = self.guard.queue.resume(self.guard.pool, &self.guard.job, self.tokens.clone());
                if let Err(error) = resume.await {
                    tracing::warn!(error = %error, job = %self.guard.job, "cannot hand in tokens to resume from");
                }
                None
            }
            OutcomeKind::Expired => Some(JobFailure::DeadlineExceeded),
            OutcomeKind::DeadLetter { deliveries, reason } => {
                Some(JobFailure::DeadLetter { attempts: deliveries, reason })
            }
        }
    }
}

struct CancelOnDrop {
    queue: Arc<dyn JobQueue>,
    pool: PoolId,
    job: JobId,
    /// No node works on the job any more.
    over: bool,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        // Without a runtime the process is ending, and the queue's memory with it.
        if !self.over
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (queue, pool, job) = (Arc::clone(&self.queue), self.pool, self.job.clone());
            runtime.spawn(async move {
                if let Err(error) = queue.cancel(pool, &job).await {
                    tracing::warn!(error = %error, job = %job, "cannot cancel a job");
                }
            });
        }
    }
}
