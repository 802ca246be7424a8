//! Letting nodes in.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{BoxStream, once, unfold};
use souk_protocol::{GatewayId, PoolId};
use souk_queue::EventHub;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::refused::Refused;
use super::shared::{Shared, VerifyNode};
use super::stream::{Pieces, Stream};
use crate::frame::{FromGateway, FromNode, GatewayHello, VERSION};
use crate::settings::WireSettings;

/// Frames on their way to a node. They are small, and what does not fit waits where it is counted.
const FRAMES_AHEAD: usize = 4;

/// Takes the streams of nodes. Clones are the same.
#[derive(Clone)]
pub struct Receiver {
    pub(super) shared: Arc<Shared>,
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
