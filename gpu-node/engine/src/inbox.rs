//! Messages to the engine's thread, and the figures that it leaves behind.
//!
//! One std mutex around plain lists, held for a push or a swap. The engine looks between steps and sleeps on the
//! condition variable while it has nothing to do. The lists are bounded: requests by `max_requests`, cancellations by
//! the requests that live.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use souk_protocol::JobFailure;
use souk_protocol::deadline::bounded;
use souk_runner::RunnerLimits;
use tokio::sync::oneshot;

use super::blocks::blocks_for;
use super::request::{Ended, EngineError, EngineRequest, Rejected};
use super::sequence::SequenceId;
use super::stats::EngineStats;

/// The mailbox between handles and the engine's thread.
pub(crate) struct Inbox {
    max_requests: usize,
    limits: RunnerLimits,
    letters: Mutex<Letters>,
    arrived: Condvar,
    stats: Mutex<EngineStats>,
}

#[derive(Default)]
struct Letters {
    new: Vec<NewRequest>,
    leaving: BTreeMap<SequenceId, Option<JobFailure>>,
    /// Requests that were taken and have not ended.
    num_requests: usize,
    next_id: u64,
    draining: bool,
    /// The engine is to look at the device's memory.
    memory_wanted: bool,
    /// The thread has ended.
    closed: bool,
}

/// A request with its ways back.
pub(super) struct NewRequest {
    pub(super) id: SequenceId,
    pub(super) request: EngineRequest,
    /// When nobody wants the answer any more.
    pub(super) deadline: Option<Instant>,
    pub(super) num_generated: Arc<AtomicU32>,
    pub(super) ended: oneshot::Sender<Ended>,
}

/// What the engine's thread takes out at once.
#[derive(Default)]
pub(super) struct Mail {
    pub(super) new: Vec<NewRequest>,
    /// Those that leave before their answer is complete: with this failure, or cancelled.
    pub(super) leaving: BTreeMap<SequenceId, Option<JobFailure>>,
    /// No more will come, and nothing is left.
    pub(super) is_last: bool,
}

impl Inbox {
    pub(super) fn new(max_requests: usize, limits: RunnerLimits) -> Self {
        Self { max_requests, limits, letters: Mutex::default(), arrived: Condvar::new(), stats: Mutex::default() }
    }

    pub(super) fn submit(
        &self,
        request: EngineRequest,
        num_generated: Arc<AtomicU32>,
        ended: oneshot::Sender<Ended>,
    ) -> Result<SequenceId, Rejected> {
        let mut letters = self.letters();
        if let Err(error) = self.check_fits(&request).and_then(|()| self.check_room(&letters)) {
            return Err(Rejected { error, request: Box::new(request) });
        }
        let id = SequenceId(letters.next_id);
        letters.next_id += 1;
        letters.num_requests += 1;
        let deadline = request.job.time_left.map(|time_left| Instant::now() + bounded(Some(time_left)));
        letters.new.push(NewRequest { id, request, deadline, num_generated, ended });
        self.arrived.notify_one();
        Ok(id)
    }

    const fn check_room(&self, letters: &Letters) -> Result<(), EngineError> {
        if letters.draining || letters.closed {
            return Err(EngineError::Stopping);
        }
        if letters.num_requests >= self.max_requests {
            return Err(EngineError::Full { limit: self.max_requests });
        }
        Ok(())
    }

    /// Refuses what cannot run however long it waits. The last token of an answer needs no K and V.
    fn check_fits(&self, request: &EngineRequest) -> Result<(), EngineError> {
        let job = &request.job;
        let too_large = |unit: &str, needed: usize, available: usize| {
            let (unit, needed, available) = (unit.to_owned(), needed as u64, available as u64);
            Err(EngineError::Refused(JobFailure::TooLarge { unit, needed, available }))
        };
        let shortest = job.prompt.len() + usize::from(job.max_tokens > 0);
        if shortest > self.limits.context_length {
            return too_large("tokens of context", shortest, self.limits.context_length);
        }
        let longest = job.max_context_tokens().min(self.limits.context_length);
        let blocks = blocks_for(longest.saturating_sub(1));
        if blocks > self.limits.num_blocks {
            return too_large("KV blocks", blocks, self.limits.num_blocks);
        }
        let all = job.prompt.iter().chain(&job.resume);
        if job.prompt.is_empty() || all.clone().any(|token| *token as usize >= self.limits.vocab_size) {
            let reason = "the prompt is empty or holds a token outside of the vocabulary".to_owned();
            return Err(EngineError::Refused(JobFailure::Internal(reason)));
        }
        Ok(())
    }

    pub(super) fn cancel(&self, id: SequenceId) {
        self.leave(id, None);
    }

    /// Asks that a request leaves before its answer is complete: with a failure, or cancelled. The first call counts.
    pub(super) fn leave(&self, id: SequenceId, failure: Option<JobFailure>) {
        let mut letters = self.letters();
        if letters.num_requests > 0 && !letters.closed {
            letters.leaving.entry(id).or_insert(failure);
            self.arrived.notify_one();
        }
    }

    pub(super) fn drain(&self) {
        self.letters().draining = true;
        self.arrived.notify_one();
    }

    /// Wakes the engine to look at the device's memory.
    pub(super) fn want_memory(&self) {
        self.letters().memory_wanted = true;
        self.arrived.notify_one();
    }

    pub(super) fn is_open(&self) -> bool {
        let letters = self.letters();
        !letters.draining && !letters.closed
    }

    pub(super) const fn limits(&self) -> RunnerLimits {
        self.limits
    }

    pub(super) const fn max_requests(&self) -> usize {
        self.max_requests
    }

    pub(super) fn stats(&self) -> EngineStats {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_stats(&self, stats: &EngineStats) {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone_from(stats);
    }

    /// Takes what has come. An idle engine sleeps here until something does.
    pub(super) fn take(&self, is_idle: bool) -> Mail {
        let mut letters = self.letters();
        while is_idle && letters.new.is_empty() && !letters.draining && !letters.memory_wanted {
            letters.leaving.clear();
            letters = self.arrived.wait(letters).unwrap_or_else(PoisonError::into_inner);
        }
        letters.memory_wanted = false;
        Mail {
            is_last: is_idle && letters.new.is_empty() && letters.draining,
            new: std::mem::take(&mut letters.new),
            leaving: std::mem::take(&mut letters.leaving),
        }
    }

    /// Notes that a request has ended.
    pub(super) fn ended(&self) {
        self.letters().num_requests -= 1;
    }

    /// Refuses all that comes from now on, and drops what came; its callers learn that the engine stopped.
    pub(super) fn close(&self) {
        let mut letters = self.letters();
        letters.closed = true;
        letters.new.clear();
        letters.leaving.clear();
    }

    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
