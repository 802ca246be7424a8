//! The gateway's end: takes nodes' streams and feeds what they say into the gateway's hub.

mod refused;
mod route;
mod stream;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{BoxStream, once, unfold};
use souk_protocol::{GatewayId, JobId, NodeId, PoolId};
use souk_queue::EventHub;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::refused::Refused;
pub use self::route::PATH;
use self::stream::{Pieces, Stream};
use crate::frame::{FromGateway, FromNode, GatewayHello, NodeHello, OLDEST_VERSION, VERSION};
use crate::settings::WireSettings;

/// Frames on their way to a node. They are small, and what does not fit waits where it is counted.
const FRAMES_AHEAD: usize = 4;

/// Who tells a node's token from any other.
#[async_trait]
pub trait VerifyNode: Send + Sync {
    /// What the service is called that shows this token, if it may bring events.
    ///
    /// # Errors
    /// Why it may not, in words that it is told.
    async fn verify(&self, token: &str) -> Result<String, String>;
}

/// Takes the streams of nodes. Clones are the same.
#[derive(Clone)]
pub struct Receiver {
    shared: Arc<Shared>,
}

struct Shared {
    gateway: GatewayId,
    /// The base models that the gateway serves.
    pools: Vec<PoolId>,
    settings: WireSettings,
    hub: EventHub,
    verify: Arc<dyn VerifyNode>,
    /// Locked for a look.
    open: Mutex<Open>,
    closing: CancellationToken,
    tasks: TaskTracker,
}

/// What all streams together have open.
#[derive(Default)]
struct Open {
    /// The newest stream of each node.
    streams: HashMap<NodeId, Newest>,
    /// Which stream says what of which attempt.
    attempts: HashMap<(JobId, u32), (NodeId, u64)>,
}

struct Newest {
    number: u64,
    /// A newer one has taken its place.
    replaced: CancellationToken,
}

impl Receiver {
    /// A receiver without streams, of a gateway that serves these base models. Call it within a runtime.
    #[must_use]
    pub fn new(
        settings: WireSettings,
        gateway: GatewayId,
        pools: Vec<PoolId>,
        hub: EventHub,
        verify: Arc<dyn VerifyNode>,
    ) -> Self {
        let shared = Shared {
            gateway,
            pools,
            settings,
            hub,
            verify,
            open: Mutex::default(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Greets a node whose bytes these are; what is to be sent to it comes back. The stream is read until it ends, or
    /// what comes back is dropped. Who it is was [verified](VerifyNode) before.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn accept(
        &self,
        pieces: BoxStream<'static, Result<Bytes, String>>,
    ) -> Result<BoxStream<'static, Bytes>, Refused> {
        let mut pieces = Pieces::new(pieces);
        let hello = match timeout(self.shared.settings.dial_timeout, pieces.next()).await {
            Ok(Ok(FromNode::Hello(hello))) => hello,
            Ok(Ok(_)) => return Err(Refused::Hello("the stream does not begin with a hello".to_owned())),
            Ok(Err(broken)) => return Err(Refused::Hello(broken.told)),
            Err(_) => return Err(Refused::Hello(format!("no hello in {:?}", self.shared.settings.dial_timeout))),
        };
        let replaced = self.shared.enter(&hello)?;
        let (sender, receiver) = mpsc::channel(FRAMES_AHEAD);
        let Shared { gateway, settings, .. } = &*self.shared;
        let version = VERSION.min(hello.version);
        let greeting = GatewayHello { version, gateway: gateway.clone(), silence: settings.silence };
        let greeting = Bytes::from(FromGateway::Hello(greeting).encode());
        let stream = Stream::new(Arc::clone(&self.shared), hello, replaced, pieces, sender);
        self.shared.tasks.spawn(stream.run());
        let frames = unfold(receiver, |mut frames| async { Some((frames.recv().await?, frames)) });
        Ok(once(std::future::ready(greeting)).chain(frames).boxed())
    }

    /// Ends all streams, and takes no more. For the end of a gateway, after its drain.
    pub async fn close(&self) {
        self.shared.closing.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Streams that are open.
    #[must_use]
    pub fn num_streams(&self) -> usize {
        self.shared.lock().streams.len()
    }

    /// Attempts of which events are awaited.
    #[must_use]
    pub fn num_attempts(&self) -> usize {
        self.shared.lock().attempts.len()
    }
}

impl Shared {
    /// Lets a stream in, in the place of an older one of its node. Resolves the result when a newer one takes its place.
    fn enter(&self, hello: &NodeHello) -> Result<CancellationToken, Refused> {
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

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Notes that a stream speaks for an attempt; false if another node's does.
    fn claim(&mut self, job: &JobId, attempt: u32, node: &NodeId, stream: u64) -> bool {
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
    fn release(&mut self, job: &JobId, attempt: u32, node: &NodeId, stream: u64) {
        let attempt = (job.clone(), attempt);
        if self.attempts.get(&attempt).is_some_and(|(by, number)| by == node && *number == stream) {
            self.attempts.remove(&attempt);
        }
    }

    fn leave(&mut self, node: &NodeId, stream: u64) {
        if self.streams.get(node).is_some_and(|newest| newest.number == stream) {
            self.streams.remove(node);
        }
    }
}
