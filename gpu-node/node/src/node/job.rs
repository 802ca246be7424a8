//! One job on this node, from delivery to settlement.

use std::sync::Arc;
use std::time::Duration;

use futures::TryFutureExt;
use souk_engine::constraint::{Constraint, ConstraintError};
use souk_engine::{EngineError, EngineRequest, Rejected, RequestHandle};
use souk_protocol::deadline::bounded;
use souk_protocol::{Digest, FinishReason, GenerateJob, JobEvent, JobFailure, Outcome, Usage};
use souk_queue::{Closed, Delivery, EventSink, QueueError, ReplyTo, Settlement};
use tokio::time::Instant;

use super::held_jobs::Held;
use super::state::NodeState;
use crate::adapters::{AdapterError, AdapterLease, SourceError};

/// How long a gateway has to take back a job that is handed over, before the queue is told.
const HAND_OVER_TIME: Duration = Duration::from_secs(1);
/// Longest failure in a log line.
const MAX_LOGGED_CHARS: usize = 200;

/// How an attempt ended, as far as the queue and the client are concerned.
enum End {
    /// In good order; the client has been told.
    Finished(FinishReason, Usage),
    /// For good; the client is to be told.
    Failed(JobFailure, Usage, Option<Box<dyn EventSink>>),
    /// Before it reached the engine, because nobody wants it.
    Cancelled(Box<dyn EventSink>),
    /// In a way that another attempt may not.
    Retry(String),
    /// It did not run to its end, because this node stops.
    NotHere,
}

/// Holds the job and starts its task. A newcomer was claimed beyond what there is room for.
pub(super) fn start(node: &Arc<NodeState>, delivery: Delivery, is_newcomer: bool) {
    let resumed = count(delivery.job.resume.len());
    let versions = delivery.job.adapters.iter().map(|adapter| adapter.digest).collect();
    let held = node.held_jobs.hold(delivery.lease.clone(), delivery.lease_for, versions, resumed, is_newcomer);
    metrics::histogram!("souk_queue_wait_seconds").record(delivery.waited.as_secs_f64());
    let node_of_task = Arc::clone(node);
    node.tasks.spawn(async move { work(&node_of_task, delivery, held).await });
}

async fn work(node: &NodeState, delivery: Delivery, held: Held) {
    let (unbegun, reply_to) = (unbegun(&delivery.job), delivery.reply_to.clone());
    let end = tokio::select! {
        biased;
        () = cut_off(node, &held, &reply_to) => End::NotHere,
        end = run(node, delivery, &held) => end,
    };
    let settlement = match end {
        End::Finished(reason, usage) => Settlement::Over { outcome: reason.outcome(), usage },
        End::Failed(failure, usage, sink) => {
            // Parts of a caller's text may stand in it.
            let said: String = failure.to_string().chars().take(MAX_LOGGED_CHARS).collect();
            tracing::info!(job = %held.lease().job, failure = ?said, "job failed");
            let outcome = failure.outcome(usage.completion_tokens);
            let over = Settlement::Over { outcome, usage };
            match sink {
                Some(sink) => last_word(sink, JobEvent::Failed(failure), over).await,
                None => over,
            }
        }
        End::Cancelled(sink) => {
            let over = Settlement::Over { outcome: Outcome::CallerLeft, usage: unbegun };
            let event = JobEvent::Finished { reason: FinishReason::Cancelled, usage: unbegun };
            last_word(sink, event, over).await
        }
        End::Retry(reason) => {
            tracing::warn!(job = %held.lease().job, attempt = held.lease().attempt, reason, "attempt failed");
            Settlement::Retry { reason }
        }
        End::NotHere => Settlement::GiveBack,
    };
    // Should the queue not know of another attempt after all, there has to be one.
    let settlement = if held.is_lost() { Settlement::GiveBack } else { settlement };
    match node.queue.settle(node.config.pool, held.lease(), settlement).await {
        Ok(()) => {}
        Err(error @ QueueError::LeaseLost { .. }) => tracing::debug!(%error, "settled too late"),
        // The lease expires, and the queue delivers again; the receiver knows repeats.
        Err(error) => tracing::warn!(%error, job = %held.lease().job, "cannot settle"),
    }
}

/// Sends the last event of a job, and settles it as `over` once the gateway has it. Where the way there is broken the job is
/// not over: another attempt says how it ended.
async fn last_word(sink: Box<dyn EventSink>, event: JobEvent, over: Settlement) -> Settlement {
    // If the client is gone it has no use for the event either.
    let closed = match sink.send(event) {
        Ok(()) => Some(sink.taken().await),
        Err(_) => sink.closed(),
    };
    unless_lost(closed, over)
}

/// How a job is settled that ended here, by what became of its events.
fn unless_lost(closed: Option<Closed>, over: Settlement) -> Settlement {
    match closed {
        Some(Closed::Lost) => Settlement::GiveBack,
        Some(Closed::Unreachable(reason)) => Settlement::Retry { reason },
        Some(Closed::Complete | Closed::Unwanted) | None => over,
    }
}

/// Resolves when everything stops and the gateway has had the chance to take the job back, with all that was sent of it.
/// What the engine says of the job from then on is not the client's business: another attempt goes on.
async fn cut_off(node: &NodeState, held: &Held, reply_to: &ReplyTo) {
    node.cut_off.cancelled().await;
    held.fall_silent();
    let handed_over = node.events.hand_over(reply_to, &held.lease().job, held.lease().attempt);
    // Whether it was in time or not: the queue refuses whoever comes second.
    let _ = tokio::time::timeout(HAND_OVER_TIME, handed_over).await;
}

/// Makes the adapters resident, compiles the constraint and runs the job. Dropping this at any point cancels the job.
async fn run(node: &NodeState, delivery: Delivery, held: &Held) -> End {
    let Delivery { mut job, lease, reply_to, .. } = delivery;
    // What has no weight does nothing, not even if it cannot be loaded or its numbers are not finite.
    job.adapters.retain(|adapter| adapter.weight != 0.0);
    let deadline = Instant::now() + bounded(job.time_left);
    let sink = held.guard(node.events.sink(&reply_to, &lease.job, lease.attempt));
    let unbegun = unbegun(&job);
    let (leases, constraint) = tokio::select! {
        biased;
        () = held.cancelled.cancelled() => return End::Cancelled(sink),
        () = held.taken_down.cancelled() => return End::Failed(JobFailure::TakenDown, unbegun, Some(sink)),
        () = node.draining.cancelled(), if !job.adapters.is_empty() => return End::NotHere,
        () = tokio::time::sleep_until(deadline) => {
            return End::Failed(JobFailure::DeadlineExceeded, unbegun, Some(sink));
        }
        ready = make_ready(node, &job) => match ready {
            Ok(ready) => ready,
            Err(unready) => return unready.end(unbegun, sink),
        },
    };
    let weights = job.adapters.iter().map(|adapter| adapter.weight);
    let adapters = leases.iter().map(|lease| Arc::clone(lease)).zip(weights).collect();
    job.time_left = job.time_left.map(|_| deadline.saturating_duration_since(Instant::now()));
    let request = EngineRequest { job, adapters, constraint, sink };
    match node.engine.submit(request) {
        Ok(generation) => follow(generation, held).await,
        Err(Rejected { error: EngineError::Refused(failure), request }) => {
            End::Failed(failure, unbegun, Some(request.sink))
        }
        Err(Rejected { error: EngineError::Full { .. } | EngineError::Stopping | EngineError::Thread(_), .. }) => {
            End::NotHere
        }
    }
    // The leases end here, after the generation.
}

/// Why a job cannot enter the engine.
enum Unready {
    Adapter(AdapterError),
    Constraint(ConstraintError),
}

impl Unready {
    fn end(self, usage: Usage, sink: Box<dyn EventSink>) -> End {
        match self {
            Self::Adapter(error) if is_transient(&error) => End::Retry(error.to_string()),
            Self::Adapter(error) => End::Failed(failure_of(&error), usage, Some(sink)),
            Self::Constraint(error) => End::Failed(error.refusal(), usage, Some(sink)),
        }
    }
}

/// What a job needs beside room in the engine, made side by side.
async fn make_ready(node: &NodeState, job: &GenerateJob) -> Result<(Vec<AdapterLease>, Option<Constraint>), Unready> {
    let constraint = async {
        match &job.constraint {
            Some(spec) => node.constraints.compile_after(&job.tenant, spec, &job.resume).await.map(Some),
            None => Ok(None),
        }
    };
    tokio::try_join!(acquire(node, job).map_err(Unready::Adapter), constraint.map_err(Unready::Constraint))
}

/// Leases all adapters of a job. Sits out the pause after a failure that may pass, so that the queue's attempts are not
/// used up at once.
async fn acquire(node: &NodeState, job: &GenerateJob) -> Result<Vec<AdapterLease>, AdapterError> {
    job.adapters.iter().for_each(|adapter| node.adapters.keep_grant(&adapter.into()));
    let digests: Vec<Digest> = job.adapters.iter().map(|adapter| adapter.digest).collect();
    loop {
        match node.adapters.acquire_all(&job.tenant, &digests).await {
            Err(AdapterError::BackingOff { retry_in_ms, reason }) if is_transient(&reason) => {
                tokio::time::sleep(Duration::from_millis(retry_in_ms)).await;
            }
            result => return result,
        }
    }
}

async fn follow(mut generation: RequestHandle, held: &Held) -> End {
    held.report(generation.counter());
    let ended = tokio::select! {
        ended = generation.ended() => ended,
        () = held.cancelled.cancelled() => {
            generation.cancel();
            generation.ended().await
        }
        () = held.taken_down.cancelled() => {
            generation.fail(JobFailure::TakenDown);
            generation.ended().await
        }
    };
    match ended.outcome {
        Ok(reason) => match ended.sink {
            Some(sink) => finished(reason, ended.usage, sink).await,
            None => End::Finished(reason, ended.usage),
        },
        Err(JobFailure::Internal(reason)) => End::Retry(reason),
        Err(failure) => End::Failed(failure, ended.usage, ended.sink),
    }
}

/// An answer that the engine has ended and said so. It counts as ended once the gateway knows.
async fn finished(reason: FinishReason, usage: Usage, sink: Box<dyn EventSink>) -> End {
    // One that ended because nobody reads has said nothing.
    let closed = match sink.closed() {
        Some(closed) => closed,
        None => sink.taken().await,
    };
    match closed {
        Closed::Lost => End::NotHere,
        Closed::Unreachable(reason) => End::Retry(reason),
        Closed::Complete | Closed::Unwanted => End::Finished(reason, usage),
    }
}

/// What the client is told of an adapter that is not to be had.
fn failure_of(error: &AdapterError) -> JobFailure {
    let too_large = |needed: u64, available: u64| {
        let unit = "bytes of room for adapters".to_owned();
        JobFailure::TooLarge { unit, needed, available }
    };
    match error {
        AdapterError::TakenDown => JobFailure::TakenDown,
        AdapterError::TooLarge { needed_bytes, budget_bytes, .. }
        | AdapterError::TogetherTooLarge { needed_bytes, budget_bytes, .. } => {
            too_large(*needed_bytes as u64, *budget_bytes as u64)
        }
        AdapterError::Source(SourceError::TooLarge { given_bytes, limit_bytes }) => {
            too_large(*given_bytes, *limit_bytes)
        }
        AdapterError::NoRoom { .. } | AdapterError::LoadTimeout { .. } | AdapterError::ReadTimeout { .. } => {
            JobFailure::AdapterBusy(error.to_string())
        }
        // Its reason decides, and what it says is told with the pause.
        AdapterError::BackingOff { reason, .. } => match failure_of(reason) {
            JobFailure::AdapterBusy(_) => JobFailure::AdapterBusy(error.to_string()),
            JobFailure::Adapter(_) => JobFailure::Adapter(error.to_string()),
            other => other,
        },
        AdapterError::Source(_)
        | AdapterError::WrongBase { .. }
        | AdapterError::Invalid(_)
        | AdapterError::Pack(_)
        | AdapterError::Stopped => JobFailure::Adapter(error.to_string()),
    }
}

/// Whether another attempt, a little later or on another node, may find the adapter. What waited in vain for room or
/// for a load has waited long enough for the client too.
fn is_transient(error: &AdapterError) -> bool {
    match error {
        AdapterError::Source(SourceError::Unavailable(_)) | AdapterError::Stopped => true,
        AdapterError::Source(_)
        | AdapterError::WrongBase { .. }
        | AdapterError::Invalid(_)
        | AdapterError::Pack(_)
        | AdapterError::TooLarge { .. }
        | AdapterError::TogetherTooLarge { .. }
        | AdapterError::NoRoom { .. }
        | AdapterError::LoadTimeout { .. }
        | AdapterError::ReadTimeout { .. }
        | AdapterError::BackingOff { .. }
        | AdapterError::TakenDown => false,
    }
}

/// What a job has used that has not reached this node's engine: what earlier attempts delivered.
fn unbegun(job: &GenerateJob) -> Usage {
    Usage {
        prompt_tokens: count(job.prompt.len()),
        cached_tokens: 0,
        completion_tokens: count(job.resume.len()),
        prefill_began: !job.resume.is_empty(),
    }
}

fn count(num_tokens: usize) -> u32 {
    u32::try_from(num_tokens).unwrap_or(u32::MAX)
}
