//! What the streams of a gateway share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use souk_protocol::{GatewayId, JobId, NodeId, PoolId};
use souk_queue::EventHub;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::refused::Refused;
use crate::frame::{NodeHello, OLDEST_VERSION, VERSION};
use crate::settings::WireSettings;

/// Who tells a node's token from any other.
#[async_trait]
pub trait VerifyNode: Send + Sync {
    /// What the service is called that shows this token, if it may bring events.
    ///
    /// # Errors
    /// Why it may not, in words that it is told.
    async fn verify(&self, token: &str) -> Result<String, String>;
}

pub(super) struct Shared {
    pub(super) gateway: GatewayId,
    /// The base models that the gateway serves.
    pub(super) pools: Vec<PoolId>,
    pub(super) settings: WireSettings,
    pub(super) hub: EventHub,
    pub(super) verify: Arc<dyn VerifyNode>,
    /// Locked for a look.
    pub(super) open: Mutex<Open>,
    pub(super) closing: CancellationToken,
    pub(super) tasks: TaskTracker,
}

/// What all streams together have open.
#[derive(Default)]
pub(super) struct Open {
    /// The newest stream of each node.
    pub(super) streams: HashMap<NodeId, Newest>,
    /// Which stream says what of which attempt.
    pub(super) attempts: HashMap<(JobId, u32), (NodeId, u64)>,
}

pub(super) struct Newest {
    number: u64,
    /// A newer one has taken its place.
    replaced: CancellationToken,
}

impl Shared {
    /// Lets a stream in, in the place of an older one of its node. Resolves the result when a newer one takes its place.
    pub(super) fn enter(&self, hello: &NodeHello) -> Result<CancellationToken, Refused> {
        if self.closing.is_cancelled() {
            return Err(Refused::Closing);
        }
        if !(OLDEST_VERSION..=VERSION).contains(&hello.version) {
            return Err(Refused::Version { given: hello.version });
        }
        if !self.pools.contains(&hello.pool) {
            return Err(Refused::Base { given: hello.pool, served: self.pools.clone() });
        }
        let mut open = self.lock();
        if let Some(newest) = open.streams.get(&hello.node) {
            if newest.number >= hello.stream {
                return Err(Refused::Stale { given: hello.stream, newest: newest.number });
            }
            newest.replaced.cancel();
        }
        let replaced = CancellationToken::new();
        let newest = Newest { number: hello.stream, replaced: replaced.clone() };
        open.streams.insert(hello.node.clone(), newest);
        Ok(replaced)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Notes that a stream speaks for an attempt; false if another node's does.
    pub(super) fn claim(&mut self, job: &JobId, attempt: u32, node: &NodeId, stream: u64) -> bool {
        let by = (node.clone(), stream);
        let before = self.attempts.insert((job.clone(), attempt), by);
        match before {
            Some(before) if before.0 != *node => {
                self.attempts.insert((job.clone(), attempt), before);
                false
            }
            _ => true,
        }
    }

    /// The stream speaks for the attempt no more.
    pub(super) fn release(&mut self, job: &JobId, attempt: u32, node: &NodeId, stream: u64) {
        let attempt = (job.clone(), attempt);
        if self.attempts.get(&attempt).is_some_and(|(by, number)| by == node && *number == stream) {
            self.attempts.remove(&attempt);
        }
    }

    pub(super) fn leave(&mut self, node: &NodeId, stream: u64) {
        if self.streams.get(node).is_some_and(|newest| newest.number == stream) {
            self.streams.remove(node);
        }
    }
}
