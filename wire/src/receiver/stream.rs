//! One stream of a node, from the gateway's hello to its end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered};
use souk_protocol::{JobEvent, JobId};
use souk_queue::{Closed, EventSink, EventSinks as _, ReplyTo};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;

use super::shared::Shared;
use crate::frame::{FlowEnd, FlowId, FromGateway, FromNode, Malformed, NodeHello, Said, Saying, Splitter};
use crate::metrics::{self, OpenStream, Side};
use crate::settings::WireSettings;

/// Most flows that are open on a stream at once: far more than a node holds jobs.
const MAX_FLOWS: usize = 64 << 10;
/// Most ends that wait for a node to read them; past it the node reads nothing.
const MAX_ENDS: usize = 64 << 10;

/// A stream on which both have greeted.
pub(super) struct Stream {
    shared: Arc<Shared>,
    hello: NodeHello,
    replaced: CancellationToken,
    pieces: Pieces,
    down: mpsc::Sender<Bytes>,
    flows: HashMap<FlowId, Flow>,
    /// The highest number of a flow that was opened.
    last_flow: FlowId,
    /// What is not said yet.
    ends: Vec<(FlowId, FlowEnd)>,
    /// Flows that were handed over, until their jobs are taken back.
    handed_over: FuturesUnordered<BoxFuture<'static, FlowId>>,
}

/// An attempt whose events come on this stream.
struct Flow {
    job: JobId,
    attempt: u32,
    sink: Box<dyn EventSink>,
}

/// A node's frames.
pub(super) struct Pieces {
    pieces: BoxStream<'static, Result<Bytes, String>>,
    splitter: Splitter,
}

/// Why a stream ended: a word for the figures and a sentence.
pub(super) struct Broken {
    pub(super) cause: &'static str,
    pub(super) told: String,
}

impl Broken {
    fn new(cause: &'static str, told: impl Into<String>) -> Self {
        Self { cause, told: told.into() }
    }
}

impl From<Malformed> for Broken {
    fn from(error: Malformed) -> Self {
        Self::new("malformed", error.to_string())
    }
}

impl Stream {
    pub(super) fn new(
        shared: Arc<Shared>,
        hello: NodeHello,
        replaced: CancellationToken,
        pieces: Pieces,
        down: mpsc::Sender<Bytes>,
    ) -> Self {
        Self {
            shared,
            hello,
            replaced,
            pieces,
            down,
            flows: HashMap::new(),
            last_flow: FlowId(0),
            ends: Vec::new(),
            handed_over: FuturesUnordered::new(),
        }
    }

    /// Takes what the node says until the stream ends. Whatever is open then is lost.
    pub(super) async fn run(mut self) {
        let _open = OpenStream::new(Side::Gateway);
        tracing::info!(node = %self.hello.node, stream = self.hello.stream, "a node's stream is open");
        let broken = self.talk().await;
        metrics::ended(Side::Gateway, broken.cause);
        let (node, lost) = (&self.hello.node, self.flows.len());
        if lost > 0 || broken.cause == "malformed" {
            tracing::warn!(%node, stream = self.hello.stream, lost, "a node's stream ended: {}", broken.told);
        } else {
            tracing::info!(%node, stream = self.hello.stream, "a node's stream ended: {}", broken.told);
        }
        // What is open is lost as this is dropped.
    }

    async fn talk(&mut self) -> Broken {
        let silence = self.shared.settings.silence;
        let mut alive = beat(silence);
        let mut heard = Instant::now();
        let (closing, down) = (self.shared.closing.clone(), self.down.clone());
        loop {
            let is_silent = sleep_until(heard + silence);
            tokio::select! {
                biased;
                () = closing.cancelled() => return Broken::new("closed", "the gateway stops"),
                () = self.replaced.cancelled() => return Broken::new("replaced", "the node has a newer one"),
                () = down.closed() => return Broken::new("broken", "the node takes no more"),
                _ = alive.tick() => {
                    self.end_what_nobody_reads();
                    // One that has room has time; for one that has none the ends do as well.
                    let _ = down.try_send(FromGateway::Alive.encode().into());
                }
                permit = down.reserve(), if !self.ends.is_empty() => {
                    let Ok(permit) = permit else { return Broken::new("broken", "the node takes no more") };
                    permit.send(FromGateway::Ends(std::mem::take(&mut self.ends)).encode().into());
                }
                Some(flow) = self.handed_over.next(), if !self.handed_over.is_empty() => {
                    self.ends.push((flow, FlowEnd::TakenBack));
                }
                frame = self.pieces.next() => {
                    heard = Instant::now();
                    if let Err(broken) = frame.and_then(|frame| self.take(frame)) {
                        return broken;
                    }
                }
                () = is_silent => return Broken::new("silent", format!("the node was silent for {silence:?}")),
            }
            if self.ends.len() > MAX_ENDS {
                return Broken::new("slow", "the node does not read what it is told");
            }
        }
    }

    fn take(&mut self, frame: FromNode) -> Result<(), Broken> {
        match frame {
            FromNode::Hello(_) => Err(Broken::new("malformed", "the node said hello twice")),
            FromNode::Alive => Ok(()),
            FromNode::Step(said) => {
                metrics::step(said.len());
                said.into_iter().try_for_each(|said| self.take_saying(said))
            }
        }
    }

    fn take_saying(&mut self, Said { flow, saying }: Said) -> Result<(), Broken> {
        match saying {
            Saying::Open { job, attempt } => return self.open(flow, job, attempt),
            Saying::Event(event) => self.take_event(flow, event),
            Saying::HandOver => self.hand_over(flow),
            Saying::Leave => {
                self.remove(flow);
            }
        }
        Ok(())
    }

    fn open(&mut self, flow: FlowId, job: JobId, attempt: u32) -> Result<(), Broken> {
        if flow <= self.last_flow {
            return Err(Broken::new("malformed", format!("flow {} opens after flow {}", flow.0, self.last_flow.0)));
        }
        if self.flows.len() >= MAX_FLOWS {
            return Err(Broken::new("malformed", format!("more than {MAX_FLOWS} flows are open")));
        }
        self.last_flow = flow;
        let NodeHello { node, stream, .. } = &self.hello;
        let sink = self.shared.hub.sink(&ReplyTo::from(self.shared.gateway.clone()), &job, attempt);
        if sink.is_closed() {
            metrics::dropped("job");
            self.ends.push((flow, FlowEnd::Unwanted));
        } else if !self.shared.lock().claim(&job, attempt, node, *stream) {
            metrics::dropped("foreign");
            tracing::warn!(%node, %job, attempt, "a node speaks for another's attempt");
            self.ends.push((flow, FlowEnd::Unwanted));
        } else {
            self.flows.insert(flow, Flow { job, attempt, sink });
        }
        Ok(())
    }

    fn take_event(&mut self, id: FlowId, event: JobEvent) {
        let Some(flow) = self.flows.get(&id) else {
            // What was under way while the flow was ended here is no fault.
            metrics::dropped(if id <= self.last_flow { "late" } else { "flow" });
            return;
        };
        let is_last = event.is_last();
        if flow.sink.send(event).is_err() || is_last {
            let end = match flow.sink.closed() {
                Some(Closed::Complete) => FlowEnd::Complete,
                Some(Closed::Lost) => FlowEnd::TakenBack,
                _ => FlowEnd::Unwanted,
            };
            self.end(id, end);
        }
    }

    fn hand_over(&mut self, id: FlowId) {
        let Some(Flow { job, attempt, .. }) = self.remove(id) else { return };
        metrics::lost(Side::Gateway, 1);
        let taken_back = self.shared.hub.lose(&job, attempt);
        self.handed_over.push(Box::pin(async move {
            taken_back.await;
            id
        }));
    }

    /// Tells the node of flows that say nothing and that nobody reads; those that say something are told at once.
    fn end_what_nobody_reads(&mut self) {
        let closed = self.flows.iter().filter(|(_, flow)| flow.sink.is_closed()).map(|(id, _)| *id);
        for id in closed.collect::<Vec<_>>() {
            self.end(id, FlowEnd::Unwanted);
        }
    }

    fn end(&mut self, id: FlowId, end: FlowEnd) {
        self.remove(id);
        self.ends.push((id, end));
    }

    fn remove(&mut self, id: FlowId) -> Option<Flow> {
        let flow = self.flows.remove(&id)?;
        self.shared.lock().release(&flow.job, flow.attempt, &self.hello.node, self.hello.stream);
        Some(flow)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let flows: Vec<_> = self.flows.drain().map(|(_, flow)| flow).collect();
        let NodeHello { node, stream, .. } = &self.hello;
        let mut open = self.shared.lock();
        open.leave(node, *stream);
        flows.iter().for_each(|flow| open.release(&flow.job, flow.attempt, node, *stream));
        drop(open);
        metrics::lost(Side::Gateway, flows.len());
        for Flow { job, attempt, .. } in flows {
            // Who hears of it takes the job back; nobody here waits for that.
            drop(self.shared.hub.lose(&job, attempt));
        }
    }
}

impl Pieces {
    pub(super) fn new(pieces: BoxStream<'static, Result<Bytes, String>>) -> Self {
        Self { pieces, splitter: Splitter::default() }
    }

    /// The next frame. Dropping the wait loses nothing.
    pub(super) async fn next(&mut self) -> Result<FromNode, Broken> {
        loop {
            if let Some(frame) = self.splitter.next_frame()? {
                return Ok(FromNode::decode(&frame)?);
            }
            match self.pieces.next().await {
                Some(Ok(piece)) => self.splitter.push(&piece),
                Some(Err(told)) => return Err(Broken::new("broken", told)),
                None => return Err(Broken::new("closed", "the node ended it")),
            }
        }
    }
}

/// When to say that the gateway lives.
fn beat(silence: Duration) -> tokio::time::Interval {
    let every = WireSettings::alive_every(silence);
    let mut alive = interval_at(Instant::now() + every, every);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    alive
}
