//! A node without a model: it claims, says tokens at a pace, renews and settles by the rules of the real one, over the real
//! dialer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use souk_protocol::{FinishReason, JobEvent, NodeId, Outcome, TokenOut, Usage};
use souk_queue::{
    Claim, Closed, Delivery, EventSink, EventSinks as _, JobQueue, Lease, LeaseProgress, MemoryQueue, ReplyTo,
    Settlement,
};
use souk_wire::{Dialer, NodeIdentity, WireSettings};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::gateway::{pool, token_at};
use crate::net::{Net, NodeNet};

/// Jobs at once.
const PLACES: usize = 4;
/// Longest wait for what the queue has: what comes ends it, so time passes without a look each moment.
const WAIT: Duration = Duration::from_secs(30);

/// One process. Dropping it is killing it.
pub(crate) struct Node {
    state: Arc<State>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

struct State {
    id: NodeId,
    queue: Arc<MemoryQueue>,
    dialer: Dialer,
    held: Mutex<HashMap<Lease, Arc<Held>>>,
    /// From one token to the next.
    pace: Duration,
    draining: CancellationToken,
    cut_off: CancellationToken,
    killed: CancellationToken,
    jobs: TaskTracker,
    /// A job has left.
    released: Notify,
    /// Stopped by a signal: nothing is done until it goes on.
    is_stopped: watch::Sender<bool>,
}

struct Held {
    num_generated: AtomicU32,
    cancelled: CancellationToken,
    is_lost: AtomicBool,
}

impl Node {
    pub(crate) fn start(
        number: usize,
        net: &Net,
        queue: &Arc<MemoryQueue>,
        settings: &WireSettings,
        pace: Duration,
    ) -> Self {
        let id = NodeId::new();
        let identity = NodeIdentity { node: id.clone(), pool: pool() };
        let dial = Arc::new(NodeNet { net: net.clone(), node: number });
        let state = Arc::new(State {
            id,
            queue: Arc::clone(queue),
            dialer: Dialer::new(settings.clone(), identity, dial),
            held: Mutex::default(),
            pace,
            draining: CancellationToken::new(),
            cut_off: CancellationToken::new(),
            killed: CancellationToken::new(),
            jobs: TaskTracker::new(),
            released: Notify::new(),
            is_stopped: watch::Sender::new(false),
        });
        let tasks = vec![
            AbortOnDropHandle::new(tokio::spawn(Arc::clone(&state).claim())),
            AbortOnDropHandle::new(tokio::spawn(Arc::clone(&state).renew())),
            AbortOnDropHandle::new(tokio::spawn(Arc::clone(&state).hear())),
        ];
        Self { state, _tasks: tasks }
    }

    /// Hands over what runs, and ends.
    pub(crate) async fn drain(self) {
        let state = &self.state;
        state.draining.cancel();
        state.queue.retire(pool(), &state.id).await.unwrap();
        state.cut_off.cancel();
        state.jobs.close();
        state.jobs.wait().await;
        state.dialer.close().await;
    }

    /// Stops it as it is, or lets it go on. Its network is the caller's business.
    pub(crate) fn stop(&self, is_stopped: bool) {
        self.state.is_stopped.send_replace(is_stopped);
    }

    pub(crate) fn num_held(&self) -> usize {
        self.state.held.lock().unwrap().len()
    }

    pub(crate) fn num_streams(&self) -> usize {
        self.state.dialer.num_streams()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.state.killed.cancel();
    }
}

impl State {
    async fn go_on(&self) {
        let mut is_stopped = self.is_stopped.subscribe();
        is_stopped.wait_for(|is_stopped| !is_stopped).await.expect("the sender is borrowed");
    }

    async fn claim(self: Arc<Self>) {
        loop {
            let max_jobs = PLACES.saturating_sub(self.held.lock().unwrap().len());
            let claim = Claim { pool: pool(), node: self.id.clone(), max_jobs, max_newcomers: 0 };
            let may_claim = async {
                if max_jobs == 0 {
                    self.released.notified().await;
                    return false;
                }
                self.queue.wait(&claim, WAIT).await.unwrap()
            };
            tokio::select! {
                biased;
                () = self.draining.cancelled() => return,
                may_claim = may_claim => if !may_claim { continue },
            }
            self.go_on().await;
            for delivery in self.queue.claim(claim).await.unwrap() {
                let held = Arc::new(Held {
                    num_generated: AtomicU32::new(delivery.job.resume.len() as u32),
                    cancelled: CancellationToken::new(),
                    is_lost: AtomicBool::new(false),
                });
                self.held.lock().unwrap().insert(delivery.lease.clone(), Arc::clone(&held));
                let (state, killed) = (Arc::clone(&self), self.killed.clone());
                self.jobs.spawn(async move {
                    tokio::select! {
                        biased;
                        () = killed.cancelled() => {}
                        () = state.work(delivery, held) => {}
                    }
                });
            }
        }
    }

    async fn renew(self: Arc<Self>) {
        loop {
            sleep(Duration::from_secs(1)).await;
            self.go_on().await;
            let of = |(lease, held): (&Lease, &Arc<Held>)| LeaseProgress {
                lease: lease.clone(),
                output_tokens: held.num_generated.load(Ordering::Relaxed),
            };
            let progress: Vec<_> = self.held.lock().unwrap().iter().map(of).collect();
            for lease in self.queue.renew(pool(), &progress).await.unwrap() {
                if let Some(held) = self.held.lock().unwrap().get(&lease) {
                    held.is_lost.store(true, Ordering::Relaxed);
                    held.cancelled.cancel();
                }
            }
        }
    }

    async fn hear(self: Arc<Self>) {
        loop {
            let cancelled = self.queue.next_cancelled(pool(), &self.id, WAIT).await.unwrap();
            self.go_on().await;
            for lease in cancelled {
                if let Some(held) = self.held.lock().unwrap().get(&lease) {
                    held.cancelled.cancel();
                }
            }
        }
    }

    async fn work(&self, delivery: Delivery, held: Arc<Held>) {
        let (lease, reply_to) = (delivery.lease.clone(), delivery.reply_to.clone());
        let settlement = tokio::select! {
            biased;
            () = self.cut_off(&lease, &reply_to, &held) => Settlement::GiveBack,
            settlement = self.run(delivery, &held) => settlement,
        };
        let settlement = if held.is_lost.load(Ordering::Relaxed) { Settlement::GiveBack } else { settlement };
        // Refused if the job went on without this node.
        let _ = self.queue.settle(pool(), &lease, settlement).await;
        self.held.lock().unwrap().remove(&lease);
        self.released.notify_one();
    }

    async fn cut_off(&self, lease: &Lease, reply_to: &ReplyTo, held: &Held) {
        self.cut_off.cancelled().await;
        held.is_lost.store(true, Ordering::Relaxed);
        let handed_over = self.dialer.hand_over(reply_to, &lease.job, lease.attempt);
        let _ = timeout(Duration::from_secs(1), handed_over).await;
    }

    async fn run(&self, delivery: Delivery, held: &Held) -> Settlement {
        let Delivery { job, lease, reply_to, .. } = delivery;
        let sink = self.dialer.sink(&reply_to, &lease.job, lease.attempt);
        let _ = sink.send(JobEvent::Started);
        let mut reason = FinishReason::Length;
        for place in job.resume.len() as u32..job.max_tokens {
            tokio::select! {
                biased;
                () = held.cancelled.cancelled() => {
                    reason = FinishReason::Cancelled;
                    break;
                }
                () = sleep(self.pace) => {}
            }
            self.go_on().await;
            if held.is_lost.load(Ordering::Relaxed) {
                return Settlement::GiveBack;
            }
            let tokens = vec![TokenOut { id: token_at(&job.id, place), logprobs: None }];
            if sink.send(JobEvent::Tokens { offset: place, tokens }).is_err() {
                reason = FinishReason::Cancelled;
                break;
            }
            sink.flush();
            held.num_generated.store(place + 1, Ordering::Relaxed);
        }
        let completion_tokens = held.num_generated.load(Ordering::Relaxed);
        let usage = Usage { prompt_tokens: 3, cached_tokens: 0, completion_tokens, prefill_began: true };
        let _ = sink.send(JobEvent::Finished { reason, usage });
        let outcome = if reason == FinishReason::Length { Outcome::Length } else { Outcome::CallerLeft };
        ended(sink, Settlement::Over { outcome, usage }).await
    }
}

/// As the real node settles a job whose last event it has sent, or could not send.
async fn ended(sink: Box<dyn EventSink>, over: Settlement) -> Settlement {
    let closed = match sink.closed() {
        Some(closed) => closed,
        None => sink.taken().await,
    };
    match closed {
        Closed::Lost => Settlement::GiveBack,
        Closed::Unreachable(reason) => Settlement::Retry { reason },
        Closed::Complete | Closed::Unwanted => over,
    }
}
