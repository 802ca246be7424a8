//! What the queue says of jobs whose node cannot say it itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use souk_protocol::{GatewayId, JobId, PoolId};
use souk_queue::{JobQueue, OutcomeKind};
use tokio::sync::mpsc;

/// Longest wait in one call; only bounds how long a dead connection can go unnoticed.
const WAIT: Duration = Duration::from_secs(30);
/// Pause after the queue could not be reached.
const PAUSE: Duration = Duration::from_secs(1);
/// Outcomes of one job that may wait for its reader: one per delivery, of which the queue allows a handful.
const CAPACITY: usize = 16;

/// Hands each outcome to whoever waits for its job.
#[derive(Clone, Default)]
pub(crate) struct Outcomes {
    waiting: Arc<Mutex<HashMap<JobId, mpsc::Sender<OutcomeKind>>>>,
}

impl Outcomes {
    /// Listens for a job's outcomes until the result is dropped.
    pub(crate) fn listen(&self, job: JobId) -> Listener {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        self.lock().insert(job.clone(), sender);
        Listener { outcomes: self.clone(), job, receiver }
    }

    /// Carries the outcomes of one pool to their listeners, for ever.
    pub(crate) async fn carry(self, queue: Arc<dyn JobQueue>, pool: PoolId, gateway: GatewayId) {
        loop {
            match queue.next_outcomes(pool, &gateway, WAIT).await {
                Ok(outcomes) => {
                    for outcome in outcomes {
                        if let Some(sender) = self.lock().get(&outcome.job) {
                            // Full only if the reader has stopped reading; its deadline ends it then.
                            let _ = sender.try_send(outcome.kind);
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %error, "cannot read the queue's outcomes");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, mpsc::Sender<OutcomeKind>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Outcomes::listen`].
pub(crate) struct Listener {
    outcomes: Outcomes,
    job: JobId,
    receiver: mpsc::Receiver<OutcomeKind>,
}

impl Listener {
    /// The next outcome; waits for ever if there is none.
    pub(crate) async fn next(&mut self) -> OutcomeKind {
        match self.receiver.recv().await {
            Some(kind) => kind,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.outcomes.lock().remove(&self.job);
    }
}
