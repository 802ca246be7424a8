//! Joins sinks and subscriptions inside one process.

use std::collections::HashMap;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use souk_protocol::{GenerateJob, JobEvent, JobId, TokenId};
use tokio::sync::{mpsc, oneshot};

use super::fence::{Fence, NotPassed};
use super::port::{Closed, EventSink, EventSinks, Gone, Wait};
use crate::words::ReplyTo;

/// Joins sinks and subscriptions inside one process. Clones are the same.
#[derive(Clone, Default)]
pub struct EventHub {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    subscriptions: Mutex<HashMap<JobId, Arc<Channel>>>,
    /// Who hears of losses, if anybody does. What waits in it is bounded by the jobs that are subscribed: each attempt of
    /// one is lost once at most.
    losses: Mutex<Option<mpsc::UnboundedSender<Loss>>>,
}

impl EventHub {
    /// A hub without subscriptions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many events a job can have at most: a start, an end and one event per token, the prompt's included if they
    /// are scored. A few more for starts of later attempts.
    #[must_use]
    pub fn capacity_for(job: &GenerateJob) -> usize {
        let prompt = if job.prompt_logprobs.is_some() { job.prompt.len() } else { 0 };
        job.max_tokens as usize + prompt + 16
    }

    /// Listens to a job. Do this before submitting it. A second subscription to the same job replaces the first.
    #[must_use]
    pub fn subscribe(&self, job: JobId, capacity: usize) -> Subscription {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        let flow = Flow {
            fence: Fence::default(),
            tokens: Vec::new(),
            seen: 0,
            lost: 0,
            is_complete: false,
            sender: Some(sender),
        };
        let channel = Arc::new(Channel { flow: Mutex::new(flow) });
        self.lock().insert(job.clone(), Arc::clone(&channel));
        Subscription { hub: self.clone(), job, channel, receiver }
    }

    /// Says that no more events of an attempt come, which has not ended: its way here broke, or its node lets go of it.
    /// Nothing of it passes from now on. The wait ends when the loss was dealt with; without one it ends at once.
    pub fn lose(&self, job: &JobId, attempt: u32) -> Wait<()> {
        let channel = self.lock().get(job).cloned();
        match channel.and_then(|channel| channel.lock().lose(attempt)) {
            Some(tokens) => self.tell(job, attempt, tokens),
            None => Box::pin(ready(())),
        }
    }

    /// Hears of losses from now on; who did so before hears of no more.
    #[must_use]
    pub fn losses(&self) -> Losses {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.shared.losses.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        Losses { receiver }
    }

    /// What has come of a job that is listened to.
    #[must_use]
    pub fn so_far(&self, job: &JobId) -> Option<SoFar> {
        let channel = self.lock().get(job).cloned()?;
        let flow = channel.lock();
        Some(SoFar { tokens: flow.tokens.clone(), attempts: flow.seen })
    }

    /// How many jobs are listened to.
    #[must_use]
    pub fn num_subscriptions(&self) -> usize {
        self.lock().len()
    }

    fn tell(&self, job: &JobId, attempt: u32, tokens: Vec<TokenId>) -> Wait<()> {
        let (done, is_done) = oneshot::channel();
        let loss = Loss { job: job.clone(), attempt, tokens, _done: done };
        if let Some(sender) = &*self.shared.losses.lock().unwrap_or_else(PoisonError::into_inner) {
            // Nobody hears of it any more: then the wait is over as well.
            let _ = sender.send(loss);
        }
        Box::pin(async move {
            // It is never sent: the loss is dropped when it was dealt with.
            let _ = is_done.await;
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Arc<Channel>>> {
        self.shared.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventSinks for EventHub {
    fn sink(&self, _reply_to: &ReplyTo, job: &JobId, attempt: u32) -> Box<dyn EventSink> {
        let channel = self.lock().get(job).cloned();
        if let Some(channel) = &channel {
            let mut flow = channel.lock();
            flow.seen = flow.seen.max(attempt);
        }
        Box::new(HubSink { hub: self.clone(), job: job.clone(), channel, attempt })
    }

    fn hand_over(&self, _reply_to: &ReplyTo, job: &JobId, attempt: u32) -> Wait<()> {
        self.lose(job, attempt)
    }
}

/// What another attempt can go on from, where nothing else is known of a job any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoFar {
    /// All tokens of the answer that have come, read or not.
    pub tokens: Vec<TokenId>,
    /// The highest attempt that has said anything.
    pub attempts: u32,
}

/// An attempt of which no more events come though it has not ended. Dropping it says that it was dealt with.
#[derive(Debug)]
pub struct Loss {
    /// The job.
    pub job: JobId,
    /// Which delivery of it.
    pub attempt: u32,
    /// All tokens of the answer that have passed, of this attempt and of those before.
    pub tokens: Vec<TokenId>,
    _done: oneshot::Sender<()>,
}

/// Where losses are heard of.
#[derive(Debug)]
pub struct Losses {
    receiver: mpsc::UnboundedReceiver<Loss>,
}

impl Losses {
    /// The next loss. Waits for ever if another hears of them, or the hub is gone.
    pub async fn next(&mut self) -> Loss {
        match self.receiver.recv().await {
            Some(loss) => loss,
            None => std::future::pending().await,
        }
    }
}

/// The reader's end. Dropping it closes all sinks of the job.
pub struct Subscription {
    hub: EventHub,
    job: JobId,
    channel: Arc<Channel>,
    receiver: mpsc::Receiver<(u32, JobEvent)>,
}

impl Subscription {
    /// The next event with the attempt that it comes from. Attempts never go down, and no token comes twice: what a
    /// later attempt repeats is taken out. `None` after the last event, or if this reader fell too far behind. Waits on
    /// if the node is lost; the queue's outcomes say what became of the job.
    pub async fn next(&mut self) -> Option<(u32, JobEvent)> {
        self.receiver.recv().await
    }

    /// The next event if one is there already.
    pub fn try_next(&mut self) -> Option<(u32, JobEvent)> {
        self.receiver.try_recv().ok()
    }

    /// All tokens of the answer that have come, read or not: what another attempt can go on from.
    #[must_use]
    pub fn tokens(&self) -> Vec<TokenId> {
        self.channel.lock().tokens.clone()
    }

    /// The job that this listens to.
    #[must_use]
    pub const fn job(&self) -> &JobId {
        &self.job
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut subscriptions = self.hub.lock();
        if subscriptions.get(&self.job).is_some_and(|channel| Arc::ptr_eq(channel, &self.channel)) {
            subscriptions.remove(&self.job);
        }
    }
}

struct Channel {
    flow: Mutex<Flow>,
}

struct Flow {
    fence: Fence,
    /// Of the answer, all that have passed.
    tokens: Vec<TokenId>,
    /// The highest attempt that a sink was opened for.
    seen: u32,
    /// The highest attempt that was lost.
    lost: u32,
    /// The last event has passed.
    is_complete: bool,
    /// `None` after the last event or an overflow: the reader gets what is in the channel, then the end.
    sender: Option<mpsc::Sender<(u32, JobEvent)>>,
}

impl Channel {
    fn lock(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flow {
    /// Passes an event on. A hole before it is a loss of the attempt.
    fn send(&mut self, attempt: u32, event: JobEvent) -> Result<(), NotPassed> {
        let sender = self.sender.as_ref().filter(|sender| !sender.is_closed()).ok_or(NotPassed::Stale)?;
        let Some(event) = self.fence.pass(attempt, event)? else { return Ok(()) };
        if let JobEvent::Tokens { tokens, .. } = &event {
            self.tokens.extend(tokens.iter().map(|token| token.id));
        }
        let is_last = event.is_last();
        let sent = sender.try_send((attempt, event)).map_err(|_| NotPassed::Stale);
        self.is_complete = is_last && sent.is_ok();
        if is_last || sent.is_err() {
            self.sender = None;
        }
        sent
    }

    /// Gives an attempt up; what has passed until then, if it was one that might still have sent.
    fn lose(&mut self, attempt: u32) -> Option<Vec<TokenId>> {
        let is_live = self.fence.admits(attempt) && self.sender.as_ref().is_some_and(|sender| !sender.is_closed());
        if !is_live {
            return None;
        }
        self.fence.shut(attempt);
        self.lost = attempt;
        Some(self.tokens.clone())
    }

    fn closed(&self, attempt: u32) -> Option<Closed> {
        if self.is_complete {
            return Some(Closed::Complete);
        }
        if attempt <= self.lost {
            return Some(Closed::Lost);
        }
        let is_open = self.sender.as_ref().is_some_and(|sender| !sender.is_closed()) && self.fence.admits(attempt);
        (!is_open).then_some(Closed::Unwanted)
    }
}

struct HubSink {
    hub: EventHub,
    job: JobId,
    /// `None` if nobody had subscribed when the sink was opened.
    channel: Option<Arc<Channel>>,
    attempt: u32,
}

impl EventSink for HubSink {
    fn send(&self, event: JobEvent) -> Result<(), Gone> {
        let Some(channel) = &self.channel else { return Err(Gone) };
        // The lock is held over the send, so that two attempts cannot overtake one another between fence and channel.
        let sent = channel.lock().send(self.attempt, event);
        if let Err(gap @ NotPassed::Gap { .. }) = sent {
            tracing::warn!(job = %self.job, attempt = self.attempt, "events are missing: {gap}");
            drop(self.hub.lose(&self.job, self.attempt));
        }
        sent.map_err(|_| Gone)
    }

    fn is_closed(&self) -> bool {
        self.closed().is_some()
    }

    fn closed(&self) -> Option<Closed> {
        self.channel.as_ref().map_or(Some(Closed::Unwanted), |channel| channel.lock().closed(self.attempt))
    }

    fn taken(&self) -> Wait<Closed> {
        Box::pin(ready(self.closed().unwrap_or(Closed::Unwanted)))
    }
}

#[cfg(test)]
mod tests;
