//! What the engine takes, how it refuses, and how what it took ends.

use std::fmt;
use std::sync::Arc;

use souk_protocol::{FinishReason, GenerateJob, JobFailure, Usage};
use souk_queue::EventSink;
use souk_runner::DeviceAdapter;

use crate::constraint::Constraint;

/// A request for the engine: a job with what the node has made ready for it.
pub struct EngineRequest {
    /// The job as it came from the queue.
    pub job: GenerateJob,
    /// The job's adapters, resident, in its order, with their weights. The caller keeps them leased until
    /// [`RequestHandle::ended`](crate::RequestHandle::ended).
    pub adapters: Vec<(Arc<DeviceAdapter>, f32)>,
    /// What the answer must look like; it stands after `job.resume` already.
    pub constraint: Option<Constraint>,
    /// Takes the events, up to and including `Finished`. A failure is left to the caller, who may want to try
    /// elsewhere.
    pub sink: Box<dyn EventSink>,
}

/// Why the engine did not take a request.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It can never run here.
    #[error(transparent)]
    Refused(JobFailure),
    /// As many requests as are allowed are in the engine.
    #[error("the engine has {limit} requests already; raise engine.max_requests or add a node")]
    Full {
        /// The cap.
        limit: usize,
    },
    /// The engine takes no more requests: it is draining, or its thread ended.
    #[error("the engine is stopping")]
    Stopping,
    /// The operating system gave no thread.
    #[error("the engine's thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// A request that the engine did not take, with the reason.
pub struct Rejected {
    /// Why it was not taken.
    pub error: EngineError,
    /// The request as it was, with its sink.
    pub request: Box<EngineRequest>,
}

/// How a request ended.
pub struct Ended {
    /// `Ok` if the sink has had `Finished`; `Err` with a failure that it has not been told.
    pub outcome: Result<FinishReason, JobFailure>,
    /// Tokens computed and generated, exactly.
    pub usage: Usage,
    /// The request's sink, for a last event. `None` if the engine's thread died with it.
    pub sink: Option<Box<dyn EventSink>>,
}

impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected").field("error", &self.error).field("job", &self.request.job.id).finish()
    }
}
