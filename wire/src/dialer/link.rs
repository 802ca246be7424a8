//! One stream of a node to one gateway, as its sinks and its task share it: from the wish for it to its end. What comes
//! after a break is another link.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use souk_protocol::{GatewayId, JobEvent, JobId};
use souk_queue::{Closed, EventSink, Gone, Wait};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::unsent::Unsent;
use crate::frame::{FlowEnd, FlowId, Saying};
use crate::metrics::{self, Side};

/// One per stream, behind an `Arc`.
pub(super) struct Link {
    pub(super) gateway: GatewayId,
    /// Where the gateway is.
    pub(super) address: String,
    /// Which of the node's streams this is.
    pub(super) number: u64,
    max_unsent_bytes: usize,
    /// Locked for what takes no wait.
    state: Mutex<LinkState>,
    /// There is something to send.
    wake: Notify,
    /// The link has ended.
    over: CancellationToken,
}

struct LinkState {
    last_flow: u32,
    flows: HashMap<FlowId, Arc<Flow>>,
    unsent: Unsent,
    /// Since when no flow is open.
    idle_since: Instant,
    /// How all flows end that are open or opened, once it is over.
    ended: Option<Closed>,
}

/// The events of one attempt on the stream.
pub(super) struct Flow {
    id: FlowId,
    job: JobId,
    attempt: u32,
    closed: OnceLock<Closed>,
    /// It is closed.
    wake: Notify,
    /// Its last word was said: the last event, or that it is handed over.
    is_said: AtomicBool,
}

impl Flow {
    fn close(&self, closed: Closed) {
        // Only the first counts.
        let _ = self.closed.set(closed);
        self.wake.notify_waiters();
    }

    async fn wait(self: Arc<Self>) -> Closed {
        loop {
            let mut woken = std::pin::pin!(self.wake.notified());
            // Registered before looking, so that what comes in between is not missed.
            woken.as_mut().enable();
            if let Some(closed) = self.closed.get() {
                return closed.clone();
            }
            woken.await;
        }
    }
}

impl Link {
    pub(super) fn new(gateway: GatewayId, address: String, number: u64, max_unsent_bytes: usize) -> Self {
        let state = LinkState {
            last_flow: 0,
            flows: HashMap::new(),
            unsent: Unsent::default(),
            idle_since: Instant::now(),
            ended: None,
        };
        let (state, wake, over) = (Mutex::new(state), Notify::new(), CancellationToken::new());
        Self { gateway, address, number, max_unsent_bytes, state, wake, over }
    }

    /// Opens a flow; `None` if the link has ended.
    pub(super) fn open(self: &Arc<Self>, job: &JobId, attempt: u32) -> Option<LinkSink> {
        let mut state = self.lock();
        if state.ended.is_some() {
            return None;
        }
        state.last_flow += 1;
        let flow = Arc::new(Flow {
            id: FlowId(state.last_flow),
            job: job.clone(),
            attempt,
            closed: OnceLock::new(),
            wake: Notify::new(),
            is_said: AtomicBool::new(false),
        });
        state.flows.insert(flow.id, Arc::clone(&flow));
        state.unsent.push(flow.id, &Saying::Open { job: job.clone(), attempt });
        drop(state);
        self.wake.notify_one();
        Some(LinkSink { link: Arc::clone(self), flow })
    }

    /// Hands an attempt over that is open here.
    pub(super) fn hand_over(self: &Arc<Self>, job: &JobId, attempt: u32) -> Option<Wait<()>> {
        let mut state = self.lock();
        let flow = state.flows.values().find(|flow| flow.attempt == attempt && flow.job == *job).cloned()?;
        if !flow.is_said.swap(true, Ordering::AcqRel) {
            state.unsent.push(flow.id, &Saying::HandOver);
        }
        drop(state);
        self.wake.notify_one();
        Some(Box::pin(async move {
            flow.wait().await;
        }))
    }

    /// Resolves when the link has ended.
    pub(super) async fn ended(&self) {
        self.over.cancelled().await;
    }

    /// Resolves when there is something to send.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The next frame to send.
    pub(super) fn next_frame(&self) -> Option<Bytes> {
        self.lock().unsent.pop()
    }

    pub(super) fn is_over(&self) -> bool {
        self.lock().ended.is_some()
    }

    /// The gateway says that flows are over.
    pub(super) fn take_ends(&self, ends: Vec<(FlowId, FlowEnd)>) {
        let mut state = self.lock();
        for (id, end) in ends {
            // One that is not there was left.
            let Some(flow) = state.remove(id) else { continue };
            flow.close(match end {
                FlowEnd::Complete => Closed::Complete,
                FlowEnd::Unwanted => Closed::Unwanted,
                FlowEnd::TakenBack => Closed::Lost,
            });
        }
    }

    /// Ends the link and all its flows. The first end counts.
    pub(super) fn end(&self, closed: &Closed) {
        let mut state = self.lock();
        if state.ended.is_some() {
            return;
        }
        let flows = std::mem::take(&mut state.flows);
        state.unsent = Unsent::default();
        state.ended = Some(closed.clone());
        drop(state);
        metrics::lost(Side::Node, flows.len());
        flows.values().for_each(|flow| flow.close(closed.clone()));
        self.over.cancel();
    }

    /// Ends the link if no flow has been open for so long; whether it did.
    pub(super) fn end_if_idle(&self, idle: Duration) -> bool {
        let mut state = self.lock();
        let is_idle = state.ended.is_none() && state.flows.is_empty() && state.idle_since.elapsed() >= idle;
        if is_idle {
            // Nobody is told: there is no flow, and who opens one now begins another link.
            state.ended = Some(Closed::Lost);
        }
        is_idle
    }

    /// Says something in a flow that is open. Past the bound of what may wait the link ends.
    fn say(&self, flow: &Flow, saying: &Saying) -> Result<(), Gone> {
        let mut state = self.lock();
        if state.ended.is_some() || flow.closed.get().is_some() {
            return Err(Gone);
        }
        state.unsent.push(flow.id, saying);
        let num_bytes = state.unsent.num_bytes();
        drop(state);
        if num_bytes > self.max_unsent_bytes {
            metrics::ended(Side::Node, "slow");
            tracing::warn!(
                gateway = %self.gateway,
                num_bytes,
                limit = self.max_unsent_bytes,
                "a gateway takes too little of what its jobs say; its stream ends (wire.max_unsent_mb)"
            );
            self.end(&Closed::Lost);
            return Err(Gone);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LinkState {
    fn remove(&mut self, id: FlowId) -> Option<Arc<Flow>> {
        let flow = self.flows.remove(&id)?;
        if self.flows.is_empty() {
            self.idle_since = Instant::now();
        }
        Some(flow)
    }
}

/// Where an attempt's events go.
pub(super) struct LinkSink {
    link: Arc<Link>,
    flow: Arc<Flow>,
}

impl EventSink for LinkSink {
    fn send(&self, event: JobEvent) -> Result<(), Gone> {
        let is_last = event.is_last();
        if self.flow.is_said.load(Ordering::Acquire) {
            return Err(Gone);
        }
        self.link.say(&self.flow, &Saying::Event(event))?;
        if is_last {
            self.flow.is_said.store(true, Ordering::Release);
            self.link.wake.notify_one();
        }
        Ok(())
    }

    fn flush(&self) {
        self.link.wake.notify_one();
    }

    fn is_closed(&self) -> bool {
        self.flow.closed.get().is_some()
    }

    fn closed(&self) -> Option<Closed> {
        self.flow.closed.get().cloned()
    }

    fn taken(&self) -> Wait<Closed> {
        Box::pin(Arc::clone(&self.flow).wait())
    }
}

impl Drop for LinkSink {
    fn drop(&mut self) {
        if self.flow.closed.get().is_some() || self.flow.is_said.swap(true, Ordering::AcqRel) {
            return;
        }
        // Without its last word: the queue is told what becomes of the job.
        if self.link.say(&self.flow, &Saying::Leave).is_ok() {
            self.link.lock().remove(self.flow.id);
            self.flow.close(Closed::Unwanted);
            self.link.wake.notify_one();
        }
    }
}
