//! Which jobs this node holds.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use souk_protocol::{Digest, JobEvent};
use souk_queue::{Closed, EventSink, Gone, Lease, LeaseProgress, Wait};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The node's jobs by lease. The lock is held for a look-up only.
#[derive(Clone, Default)]
pub(super) struct HeldJobs(Arc<HeldJobsState>);

/// Cancellations that came before their job, most of them of jobs that have just ended. Far more than can be on their
/// way at once.
const EARLY_KEPT: usize = 256;

#[derive(Default)]
struct HeldJobsState {
    pages: Mutex<Pages>,
    released: Notify,
}

#[derive(Default)]
struct Pages {
    held: HashMap<Lease, HeldJob>,
    /// A cancellation may overtake the answer to the claim.
    early: VecDeque<Lease>,
}

struct HeldJob {
    lease_for: Duration,
    /// The versions that the job uses.
    versions: Vec<Digest>,
    cancelled: CancellationToken,
    taken_down: CancellationToken,
    is_lost: Arc<AtomicBool>,
    num_generated: Arc<AtomicU32>,
    /// It was taken although there was no room, as the first of its tenant.
    is_newcomer: bool,
    is_in_engine: bool,
    /// The engine has said something of it.
    has_begun: Arc<AtomicBool>,
}

/// A job that the node holds, until this is dropped.
pub(super) struct Held {
    held_jobs: HeldJobs,
    lease: Lease,
    /// The job is to stop: it is cancelled, or the lease is lost.
    pub(super) cancelled: CancellationToken,
    /// The job is to stop: a version that it uses was taken down.
    pub(super) taken_down: CancellationToken,
    is_lost: Arc<AtomicBool>,
    has_begun: Arc<AtomicBool>,
}

/// Where an attempt sends its events as long as it has the lease. Afterwards another attempt answers, and that this one
/// stops is nothing to the client.
struct WhileHeld {
    sink: Box<dyn EventSink>,
    is_lost: Arc<AtomicBool>,
    has_begun: Arc<AtomicBool>,
}

impl EventSink for WhileHeld {
    fn send(&self, event: JobEvent) -> Result<(), Gone> {
        self.has_begun.store(true, Ordering::Relaxed);
        if self.is_lost.load(Ordering::Acquire) { Err(Gone) } else { self.sink.send(event) }
    }

    fn flush(&self) {
        self.sink.flush();
    }

    fn is_closed(&self) -> bool {
        self.is_lost.load(Ordering::Acquire) || self.sink.is_closed()
    }

    fn closed(&self) -> Option<Closed> {
        if self.is_lost.load(Ordering::Acquire) { Some(Closed::Lost) } else { self.sink.closed() }
    }

    fn taken(&self) -> Wait<Closed> {
        self.sink.taken()
    }
}

impl HeldJobs {
    /// Holds a job that uses these versions and has `num_generated` tokens from earlier attempts.
    pub(super) fn hold(
        &self,
        lease: Lease,
        lease_for: Duration,
        versions: Vec<Digest>,
        num_generated: u32,
        is_newcomer: bool,
    ) -> Held {
        let (cancelled, taken_down) = (CancellationToken::new(), CancellationToken::new());
        let (is_lost, has_begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let num_generated = Arc::new(AtomicU32::new(num_generated));
        let mut pages = self.lock();
        if pages.early.contains(&lease) {
            cancelled.cancel();
        }
        let entry = HeldJob {
            lease_for,
            versions,
            cancelled: cancelled.clone(),
            taken_down: taken_down.clone(),
            is_lost: Arc::clone(&is_lost),
            num_generated,
            is_newcomer,
            is_in_engine: false,
            has_begun: Arc::clone(&has_begun),
        };
        pages.held.insert(lease.clone(), entry);
        drop(pages);
        Held { held_jobs: self.clone(), lease, cancelled, taken_down, is_lost, has_begun }
    }

    /// The queue has given the job to another attempt: after a pause of the whole process, for one.
    pub(super) fn lose(&self, lease: &Lease) {
        if let Some(entry) = self.lock().held.get(lease) {
            entry.is_lost.store(true, Ordering::Release);
            entry.cancelled.cancel();
        }
    }

    /// Ends the jobs that use this version. Returns how many there are.
    pub(super) fn take_down(&self, version: &Digest) -> usize {
        let pages = self.lock();
        let using = pages.held.values().filter(|entry| entry.versions.contains(version));
        using.inspect(|entry| entry.taken_down.cancel()).count()
    }

    pub(super) fn cancel(&self, lease: &Lease) {
        let mut pages = self.lock();
        if let Some(entry) = pages.held.get(lease) {
            entry.cancelled.cancel();
            return;
        }
        if pages.early.len() == EARLY_KEPT {
            pages.early.pop_front();
        }
        pages.early.push_back(lease.clone());
    }

    pub(super) fn len(&self) -> usize {
        self.lock().held.len()
    }

    /// Newcomers that are in the engine and of which it has said nothing yet. Those that wait for their adapters are
    /// not among them: they take nothing from one that can run.
    pub(super) fn num_newcomers_waiting(&self) -> usize {
        let waits =
            |entry: &&HeldJob| entry.is_newcomer && entry.is_in_engine && !entry.has_begun.load(Ordering::Relaxed);
        self.lock().held.values().filter(waits).count()
    }

    pub(super) fn progress(&self) -> Vec<LeaseProgress> {
        let pages = self.lock();
        let progress = pages.held.iter().map(|(lease, entry)| LeaseProgress {
            lease: lease.clone(),
            output_tokens: entry.num_generated.load(Ordering::Relaxed),
        });
        progress.collect()
    }

    /// Jobs that the engine has and has not ended.
    #[cfg(test)]
    pub(super) fn num_in_engine(&self) -> usize {
        self.lock().held.values().filter(|entry| entry.is_in_engine).count()
    }

    /// Lets all leases run out, as if the process were gone.
    #[cfg(test)]
    pub(super) fn forget_all(&self) {
        self.lock().held.clear();
    }

    /// A third of the shortest lease, so that two reports may fail, but at most `longest`.
    pub(super) fn report_every(&self, longest: Duration) -> Duration {
        let shortest = self.lock().held.values().map(|entry| entry.lease_for).min();
        shortest.map_or(longest, |lease_for| longest.min(lease_for / 3))
    }

    /// Resolves when a held job is next let go.
    pub(super) async fn next_release(&self) {
        self.0.released.notified().await;
    }

    pub(super) async fn wait_until_empty(&self) {
        loop {
            let released = self.0.released.notified();
            tokio::pin!(released);
            // Enabled before looking, so that no release is missed in between.
            released.as_mut().enable();
            if self.len() == 0 {
                return;
            }
            released.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.0.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    pub(super) const fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Lets the client hear no more of this attempt.
    pub(super) fn fall_silent(&self) {
        self.is_lost.store(true, Ordering::Release);
    }

    /// Whether another attempt has the job now.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Acquire)
    }

    /// The sink for what this attempt says.
    pub(super) fn guard(&self, sink: Box<dyn EventSink>) -> Box<dyn EventSink> {
        Box::new(WhileHeld { sink, is_lost: Arc::clone(&self.is_lost), has_begun: Arc::clone(&self.has_begun) })
    }

    /// Notes that the engine has the job. Reports what it counts from now on.
    pub(super) fn report(&self, counter: Arc<AtomicU32>) {
        if let Some(entry) = self.held_jobs.lock().held.get_mut(&self.lease) {
            entry.num_generated = counter;
            entry.is_in_engine = true;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.held_jobs.lock().held.remove(&self.lease);
        self.held_jobs.0.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use souk_protocol::{JobId, RequestId};

    use super::*;

    #[test]
    fn a_cancellation_that_comes_before_its_job_is_not_lost() {
        let held_jobs = HeldJobs::default();
        let lease = |attempt| Lease { job: JobId { request: RequestId::from_stored("r"), index: 0 }, attempt };
        held_jobs.cancel(&lease(1));
        assert!(held_jobs.hold(lease(1), Duration::ZERO, Vec::new(), 0, false).cancelled.is_cancelled());
        assert!(!held_jobs.hold(lease(2), Duration::ZERO, Vec::new(), 0, false).cancelled.is_cancelled());
    }
}
