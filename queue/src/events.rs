//! The event stream of a job, from the node that runs it to the gateway that asked.
//!
//! Tokens do not go through the queue: a hundred answers of fifty tokens a second would be most of its load. They go
//! through a sink that the node opens per attempt. [`EventSinks`] is the port; [`EventHub`] is its implementation
//! inside one process.
//!
//! A sink never blocks, since one thread serves all answers of a node. A subscription is therefore as deep as the job
//! can have events (see [`EventHub::capacity_for`]): a reader that is slow costs memory in proportion to its own
//! `max_tokens` and nothing else. Should the channel overflow all the same, the sink says [`Gone`] and the job is
//! cancelled, because a stream with a hole in it is worth less than none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use souk_protocol::{GenerateJob, JobEvent, JobId};
use tokio::sync::mpsc;

use crate::words::ReplyTo;

/// Opens sinks: the node's side of the port.
pub trait EventSinks: Send + Sync {
    /// The sink for one attempt of a job, at the gateway that submitted it. If nobody listens there it is closed from the
    /// start.
    fn sink(&self, reply_to: &ReplyTo, job: &JobId, attempt: u32) -> Box<dyn EventSink>;
}

/// Takes the events of one attempt, in order.
pub trait EventSink: Send {
    /// Hands over an event without waiting.
    ///
    /// # Errors
    /// [`Gone`] if nobody wants the events of this attempt any more. Its work should stop.
    fn send(&self, event: JobEvent) -> Result<(), Gone>;

    /// Whether a send would fail because the reader left.
    fn is_closed(&self) -> bool;
}

/// Nobody reads the events of this attempt: the client left, a later attempt took over, or the reader fell too far
/// behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads the events of this attempt")]
pub struct Gone;

/// Joins sinks and subscriptions inside one process.
#[derive(Clone, Default)]
pub struct EventHub {
    subscriptions: Arc<Mutex<HashMap<JobId, Arc<Channel>>>>,
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
        let flow = Flow { fence: Fence::default(), sender: Some(sender) };
        let channel = Arc::new(Channel { flow: Mutex::new(flow) });
        self.lock().insert(job.clone(), Arc::clone(&channel));
        Subscription { hub: self.clone(), job, channel, receiver }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Arc<Channel>>> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventSinks for EventHub {
    fn sink(&self, _reply_to: &ReplyTo, job: &JobId, attempt: u32) -> Box<dyn EventSink> {
        Box::new(HubSink { channel: self.lock().get(job).cloned(), attempt })
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

/// Lets the events of the highest attempt pass, each once. The receiver of a remote stream applies the same rule.
#[derive(Clone, Debug, Default)]
pub struct Fence {
    attempt: u32,
    /// Tokens of the answer that have passed.
    num_tokens: u32,
    /// Prompt positions whose logprobs have passed, and how many of them the live attempt has repeated.
    num_prompt: usize,
    num_prompt_repeated: usize,
    over: bool,
}

impl Fence {
    /// What is left of an event: nothing if it is a repeat.
    ///
    /// # Errors
    /// [`Gone`] if a later attempt has begun or the job is over.
    pub fn pass(&mut self, attempt: u32, event: JobEvent) -> Result<Option<JobEvent>, Gone> {
        if attempt < self.attempt || self.over {
            return Err(Gone);
        }
        if attempt > self.attempt {
            self.attempt = attempt;
            self.num_prompt_repeated = 0;
        }
        Ok(match event {
            JobEvent::Tokens { offset, mut tokens } => {
                let repeated = (self.num_tokens.saturating_sub(offset) as usize).min(tokens.len());
                tokens.drain(..repeated);
                let offset = offset + repeated as u32;
                self.num_tokens = self.num_tokens.max(offset + tokens.len() as u32);
                (!tokens.is_empty()).then_some(JobEvent::Tokens { offset, tokens })
            }
            JobEvent::PromptLogprobs(mut logprobs) => {
                let repeated = (self.num_prompt - self.num_prompt_repeated).min(logprobs.len());
                self.num_prompt_repeated += logprobs.len();
                self.num_prompt = self.num_prompt.max(self.num_prompt_repeated);
                logprobs.drain(..repeated);
                (!logprobs.is_empty()).then_some(JobEvent::PromptLogprobs(logprobs))
            }
            event => {
                self.over = event.is_last();
                Some(event)
            }
        })
    }

    /// Whether an attempt may still send.
    #[must_use]
    pub const fn admits(&self, attempt: u32) -> bool {
        attempt >= self.attempt && !self.over
    }
}

struct Channel {
    flow: Mutex<Flow>,
}

struct Flow {
    fence: Fence,
    /// `None` after the last event or an overflow: the reader gets what is in the channel, then the end.
    sender: Option<mpsc::Sender<(u32, JobEvent)>>,
}

impl Channel {
    fn lock(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flow {
    fn send(&mut self, attempt: u32, event: JobEvent) -> Result<(), Gone> {
        let sender = self.sender.as_ref().filter(|sender| !sender.is_closed()).ok_or(Gone)?;
        let Some(event) = self.fence.pass(attempt, event)? else { return Ok(()) };
        let is_last = event.is_last();
        let sent = sender.try_send((attempt, event)).map_err(|_| Gone);
        if is_last || sent.is_err() {
            self.sender = None;
        }
        sent
    }
}

struct HubSink {
    /// `None` if nobody had subscribed when the sink was opened.
    channel: Option<Arc<Channel>>,
    attempt: u32,
}

impl EventSink for HubSink {
    fn send(&self, event: JobEvent) -> Result<(), Gone> {
        // The lock is held over the send, so that two attempts cannot overtake one another between fence and channel.
        self.channel.as_ref().ok_or(Gone)?.lock().send(self.attempt, event)
    }

    fn is_closed(&self) -> bool {
        let Some(flow) = self.channel.as_ref().map(|channel| channel.lock()) else { return true };
        flow.sender.as_ref().is_none_or(mpsc::Sender::is_closed) || !flow.fence.admits(self.attempt)
    }
}

#[cfg(test)]
mod tests {
    use souk_protocol::{FinishReason, GatewayId, JobFailure, RequestId, TokenOut, Usage};

    use super::*;

    fn tokens(offset: u32, ids: &[u32]) -> JobEvent {
        JobEvent::Tokens { offset, tokens: ids.iter().map(|id| TokenOut { id: *id, logprobs: None }).collect() }
    }

    fn finished() -> JobEvent {
        JobEvent::Finished { reason: FinishReason::Stop, usage: Usage::default() }
    }

    /// A hub, a subscription of this depth, and a way to open sinks.
    fn open(capacity: usize) -> (Subscription, impl Fn(u32) -> Box<dyn EventSink>) {
        let (hub, job) = (EventHub::new(), JobId { request: RequestId::new(), index: 0 });
        let subscription = hub.subscribe(job.clone(), capacity);
        (subscription, move |attempt| hub.sink(&GatewayId::new().into(), &job, attempt))
    }

    #[tokio::test]
    async fn a_later_attempt_takes_over_without_gap_or_repeat() {
        let (mut subscription, sink) = open(16);
        let (first, second) = (sink(1), sink(2));
        first.send(tokens(0, &[10, 11])).unwrap();
        second.send(tokens(0, &[10])).unwrap();
        second.send(tokens(1, &[11, 12])).unwrap();
        assert_eq!(first.send(tokens(2, &[99])), Err(Gone), "the first attempt is a zombie now");
        assert!(first.is_closed() && !second.is_closed());
        second.send(finished()).unwrap();
        let mut got = Vec::new();
        while let Some(event) = subscription.next().await {
            got.push(event);
        }
        assert_eq!(got, [(1, tokens(0, &[10, 11])), (2, tokens(2, &[12])), (2, finished())]);
    }

    #[test]
    fn prompt_logprobs_that_a_later_attempt_repeats_are_taken_out() {
        let mut fence = Fence::default();
        let scores = |count: usize| JobEvent::PromptLogprobs(vec![None; count]);
        assert_eq!(fence.pass(1, scores(3)), Ok(Some(scores(3))));
        assert_eq!(fence.pass(2, scores(2)), Ok(None));
        assert_eq!(fence.pass(2, scores(4)), Ok(Some(scores(3))));
        assert_eq!(fence.pass(2, scores(1)), Ok(Some(scores(1))));
    }

    #[test]
    fn dropping_the_subscription_closes_the_sink() {
        let (subscription, sink) = open(16);
        let sink = sink(1);
        assert!(!sink.is_closed());
        drop(subscription);
        assert!(sink.is_closed());
        assert_eq!(sink.send(JobEvent::Started), Err(Gone));
    }

    #[test]
    fn a_sink_to_nobody_is_closed_from_the_start() {
        let (subscription, sink) = open(16);
        drop(subscription);
        assert!(sink(1).is_closed());
    }

    #[tokio::test]
    async fn an_overflow_ends_the_stream_rather_than_leave_a_hole() {
        let (mut subscription, sink) = open(1);
        let sink = sink(1);
        sink.send(tokens(0, &[1])).unwrap();
        assert_eq!(sink.send(tokens(1, &[2])), Err(Gone));
        assert_eq!(subscription.next().await, Some((1, tokens(0, &[1]))));
        assert_eq!(sink.send(tokens(2, &[3])), Err(Gone), "room again, but the second token is lost");
        assert_eq!(subscription.next().await, None);
    }

    #[test]
    fn nothing_follows_the_last_event() {
        let (_subscription, sink) = open(16);
        sink(1).send(JobEvent::Failed(JobFailure::ShuttingDown)).unwrap();
        assert_eq!(sink(2).send(tokens(0, &[1])), Err(Gone));
    }
}
