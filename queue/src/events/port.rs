//! The node's side of an event stream.

use std::future::{Future, ready};
use std::pin::Pin;

use souk_protocol::{JobEvent, JobId};

use crate::words::ReplyTo;

/// A wait that has nothing to do with who began it.
pub type Wait<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Opens sinks.
pub trait EventSinks: Send + Sync {
    /// The sink for one attempt of a job, at the gateway that submitted it. If nobody listens there it is closed from the
    /// start, or as soon as that is known.
    fn sink(&self, reply_to: &ReplyTo, job: &JobId, attempt: u32) -> Box<dyn EventSink>;

    /// Says at once that this node lets go of an attempt which has not ended, after all that was sent of it: the gateway
    /// is to have another node go on from there. The wait ends when it has, or when nobody is there who could.
    fn hand_over(&self, reply_to: &ReplyTo, job: &JobId, attempt: u32) -> Wait<()>;
}

/// Takes the events of one attempt, in order.
pub trait EventSink: Send {
    /// Hands over an event without waiting. It may be kept until [`flush`](Self::flush) or the last event, so that what
    /// a step says goes together.
    ///
    /// # Errors
    /// [`Gone`] if nobody wants the events of this attempt any more. Its work should stop.
    fn send(&self, event: JobEvent) -> Result<(), Gone>;

    /// Sends what was kept.
    fn flush(&self) {}

    /// Whether a send would fail because the reader left.
    fn is_closed(&self) -> bool;

    /// Why a send would fail; `None` while it would not.
    fn closed(&self) -> Option<Closed> {
        self.is_closed().then_some(Closed::Unwanted)
    }

    /// Waits until the reader has the last event, which was sent before, or never will have it. A job is settled only
    /// then.
    fn taken(&self) -> Wait<Closed> {
        Box::pin(ready(Closed::Complete))
    }
}

/// Why a sink takes no events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The reader has all of them, the last one too.
    Complete,
    /// Nobody reads them: the client left, a later attempt took over, or the reader fell too far behind.
    Unwanted,
    /// The way to the reader broke, or the attempt was handed over: the job goes on in another attempt.
    Lost,
    /// The reader could not be reached, and why: another node may reach it.
    Unreachable(String),
}

/// Nobody reads the events of this attempt: the client left, a later attempt took over, or the reader fell too far
/// behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads the events of this attempt")]
pub struct Gone;
