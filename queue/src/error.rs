//! Why an operation on the queue had no effect.

use std::fmt;
use std::time::Duration;

use souk_protocol::JobId;

/// Why an operation on the queue had no effect.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The submission would break a cap. Nothing was stored.
    #[error(transparent)]
    Full(#[from] QueueFull),
    /// The lease is not the live one: it expired and the job went on, or the job is over. The attempt must stop.
    #[error("attempt {attempt} of job {job} no longer holds the lease")]
    LeaseLost {
        /// The job of the lease.
        job: JobId,
        /// The attempt that was given.
        attempt: u32,
    },
    /// No dead letter has this id.
    #[error("job {0} is not among the dead letters")]
    NotDead(JobId),
    /// The store behind the queue does not answer.
    #[error("the queue cannot be reached")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A refusal at admission: the caller should come back later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {scope} is full: {queued} jobs of at most {limit}; retry after {} s", .retry_after.as_secs())]
pub struct QueueFull {
    /// Whose cap it is: a tenant's own means 429, the pool's means 503.
    pub scope: FullScope,
    /// Most jobs that the cap allows.
    pub limit: usize,
    /// How many jobs the cap counts now.
    pub queued: usize,
    /// When about half of the backlog should be gone, judged by the pace of recent claims. Between 1 and 60 s.
    pub retry_after: Duration,
}

/// When so many jobs should be gone at this pace. Between 1 and 60 s.
pub(crate) fn time_to_drain(seconds_per_claim: f64, num_jobs: usize) -> Duration {
    Duration::from_secs_f64((seconds_per_claim * num_jobs as f64).clamp(1.0, 60.0).ceil())
}

/// Which cap refused a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FullScope {
    /// Jobs of this tenant that wait.
    TenantQueued,
    /// Jobs of this tenant that wait or run.
    TenantInFlight,
    /// Jobs of all tenants that wait.
    PoolQueued,
}

impl fmt::Display for FullScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TenantQueued => "tenant's queue",
            Self::TenantInFlight => "tenant's share of running and waiting jobs",
            Self::PoolQueued => "pool's queue",
        })
    }
}
