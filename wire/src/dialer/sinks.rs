//! A stream for each gateway that has sent work.

use std::collections::HashMap;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use souk_protocol::{GatewayId, JobEvent, JobId};
use souk_queue::{Closed, EventSink, EventSinks, Gone, ReplyTo, Wait};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::dial::Dial;
use super::identity::NodeIdentity;
use super::link::Link;
use super::run::{BackOff, Runner};
use crate::settings::WireSettings;

/// Gateways that are remembered for their back-off alone; far more than an installation has.
const MAX_PEERS: usize = 1024;

/// The node's [`EventSinks`]: streams are dialled when work of their gateway comes, kept while they are used, and dialled
/// again after a break. Clones are the same. Dropping the last ends all streams.
#[derive(Clone)]
pub struct Dialer {
    shared: Arc<Shared>,
}

struct Shared {
    identity: NodeIdentity,
    settings: WireSettings,
    dial: Arc<dyn Dial>,
    runtime: Handle,
    tasks: TaskTracker,
    /// Locked for a look.
    peers: Mutex<Peers>,
}

#[derive(Default)]
struct Peers {
    by_gateway: HashMap<GatewayId, Peer>,
    num_links: u64,
}

/// What is known of a gateway.
struct Peer {
    link: Arc<Link>,
    back_off: Arc<BackOff>,
}

impl Dialer {
    /// A dialer without streams. Call it within a runtime.
    #[must_use]
    pub fn new(settings: WireSettings, identity: NodeIdentity, dial: Arc<dyn Dial>) -> Self {
        let shared = Shared {
            identity,
            settings,
            dial,
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            peers: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Ends all streams; what runs on them is lost. For the end of a node, after its drain.
    pub async fn close(&self) {
        let links: Vec<_> = self.shared.lock().by_gateway.drain().map(|(_, peer)| peer.link).collect();
        links.iter().for_each(|link| link.end(&Closed::Lost));
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Streams that are open or being dialled.
    #[must_use]
    pub fn num_streams(&self) -> usize {
        self.shared.lock().by_gateway.values().filter(|peer| !peer.link.is_over()).count()
    }
}

impl EventSinks for Dialer {
    fn sink(&self, reply_to: &ReplyTo, job: &JobId, attempt: u32) -> Box<dyn EventSink> {
        let Some(address) = &reply_to.advertise else {
            return Box::new(ClosedSink("its gateway does not say where it is (gateway.advertise)"));
        };
        let mut peers = self.shared.lock();
        if let Some(sink) = peers.by_gateway.get(&reply_to.gateway).and_then(|peer| peer.link.open(job, attempt)) {
            return Box::new(sink);
        }
        let link = self.shared.begin(&mut peers, &reply_to.gateway, address);
        // It has only begun, and nothing ends it before its task runs.
        match link.open(job, attempt) {
            Some(sink) => Box::new(sink),
            None => Box::new(ClosedSink("the stream to its gateway ended as it began")),
        }
    }

    fn hand_over(&self, reply_to: &ReplyTo, job: &JobId, attempt: u32) -> Wait<()> {
        let peers = self.shared.lock();
        let link = peers.by_gateway.get(&reply_to.gateway).map(|peer| Arc::clone(&peer.link));
        drop(peers);
        link.and_then(|link| link.hand_over(job, attempt)).unwrap_or_else(|| Box::pin(ready(())))
    }
}

impl Shared {
    /// Begins a stream to a gateway in the place of one that is over.
    fn begin(&self, peers: &mut Peers, gateway: &GatewayId, address: &str) -> Arc<Link> {
        if peers.by_gateway.len() >= MAX_PEERS {
            peers.by_gateway.retain(|_, peer| !peer.link.is_over());
        }
        peers.num_links += 1;
        let bound = self.settings.max_unsent_bytes;
        let link = Arc::new(Link::new(gateway.clone(), address.to_owned(), peers.num_links, bound));
        let back_off = peers.by_gateway.get(gateway).map(|peer| Arc::clone(&peer.back_off)).unwrap_or_default();
        peers.by_gateway.insert(gateway.clone(), Peer { link: Arc::clone(&link), back_off: Arc::clone(&back_off) });
        let runner = Runner {
            link: Arc::clone(&link),
            identity: self.identity.clone(),
            settings: self.settings.clone(),
            dial: Arc::clone(&self.dial),
            back_off,
        };
        self.tasks.spawn_on(runner.run(), &self.runtime);
        link
    }

    fn lock(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let peers = self.peers.get_mut().unwrap_or_else(PoisonError::into_inner);
        peers.by_gateway.values().for_each(|peer| peer.link.end(&Closed::Lost));
    }
}

/// A sink to a gateway that cannot be reached, and why.
struct ClosedSink(&'static str);

impl EventSink for ClosedSink {
    fn send(&self, _event: JobEvent) -> Result<(), Gone> {
        Err(Gone)
    }

    fn is_closed(&self) -> bool {
        true
    }

    fn closed(&self) -> Option<Closed> {
        Some(Closed::Unreachable(self.0.to_owned()))
    }

    fn taken(&self) -> Wait<Closed> {
        Box::pin(ready(Closed::Unreachable(self.0.to_owned())))
    }
}
