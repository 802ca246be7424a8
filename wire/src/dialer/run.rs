//! The task of one stream: dial, greet, then send what waits and hear what the gateway says, until either ends.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use souk_queue::Closed;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::dial::{Dial, DialError, Dialled};
use super::identity::NodeIdentity;
use super::link::Link;
use crate::frame::{FromGateway, FromNode, GatewayHello, NodeHello, OLDEST_VERSION, Splitter, VERSION};
use crate::metrics::{self, OpenStream, Side};
use crate::settings::WireSettings;

/// Before a gateway is dialled that could not be reached; it doubles with each further failure, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// What a gateway may say of silence.
const SILENCES: std::ops::RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(60);

/// How long a gateway is left alone, over all streams to it.
#[derive(Default)]
pub(super) struct BackOff {
    num_failures: AtomicU32,
    until: Mutex<Option<Instant>>,
}

impl BackOff {
    async fn wait(&self) {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = until {
            sleep_until(until).await;
        }
    }

    fn failed(&self) {
        let failures = self.num_failures.fetch_add(1, Ordering::Relaxed);
        let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE);
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + pause);
    }

    fn succeeded(&self) {
        self.num_failures.store(0, Ordering::Relaxed);
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// What the task of a stream has.
pub(super) struct Runner {
    pub(super) link: Arc<Link>,
    pub(super) identity: NodeIdentity,
    pub(super) settings: WireSettings,
    pub(super) dial: Arc<dyn Dial>,
    pub(super) back_off: Arc<BackOff>,
}

/// A stream on which both have greeted.
struct Stream {
    up: mpsc::Sender<Bytes>,
    down: Incoming,
    silence: Duration,
}

/// Frames of the gateway.
struct Incoming {
    pieces: futures::stream::BoxStream<'static, Result<Bytes, String>>,
    splitter: Splitter,
}

/// How a try ended.
enum Tried {
    Open(Stream),
    /// Another may succeed.
    Away(String),
    /// None will.
    Closed(Closed),
}

/// Why a stream ended: a word for the figures and a sentence.
struct Broken {
    cause: &'static str,
    told: String,
}

impl Runner {
    pub(super) async fn run(self) {
        let link = Arc::clone(&self.link);
        // Whatever happens to this task, its flows come to an end.
        let ends = EndsLink(Arc::clone(&link));
        match self.reach().await {
            Ok(stream) => {
                let broken = self.talk(stream).await;
                metrics::ended(Side::Node, broken.cause);
                if broken.cause != "idle" && broken.cause != "closed" {
                    tracing::warn!(gateway = %link.gateway, "the stream to a gateway ended: {}", broken.told);
                }
            }
            Err(closed) => link.end(&closed),
        }
        drop(ends);
    }

    /// Tries to open the stream until it has taken too long.
    async fn reach(&self) -> Result<Stream, Closed> {
        let give_up = Instant::now() + self.settings.give_up;
        loop {
            let tried = tokio::select! {
                biased;
                () = self.link.ended() => return Err(Closed::Lost),
                tried = async {
                    self.back_off.wait().await;
                    let limit = self.settings.dial_timeout;
                    timeout(limit, self.greet()).await.unwrap_or_else(|_| Tried::Away(format!("no answer in {limit:?}")))
                } => tried,
            };
            match tried {
                Tried::Open(stream) => {
                    self.back_off.succeeded();
                    metrics::dialled("open");
                    return Ok(stream);
                }
                Tried::Away(told) => {
                    metrics::dialled("away");
                    self.back_off.failed();
                    if Instant::now() >= give_up {
                        let address = &self.link.address;
                        tracing::warn!(gateway = %self.link.gateway, address, "a gateway cannot be reached: {told}");
                        return Err(Closed::Unreachable(format!("the gateway at {address} cannot be reached: {told}")));
                    }
                }
                Tried::Closed(closed) => {
                    self.back_off.failed();
                    return Err(closed);
                }
            }
        }
    }

    /// Dials once and exchanges hellos.
    async fn greet(&self) -> Tried {
        let NodeIdentity { node, pool } = self.identity.clone();
        let hello = FromNode::Hello(NodeHello { version: VERSION, node, pool, stream: self.link.number });
        let Dialled { up, down } = match self.dial.dial(&self.link.address, hello.encode().into()).await {
            Ok(dialled) => dialled,
            Err(DialError::Away(told)) => return Tried::Away(told),
            Err(DialError::Refused(told)) => return self.refused(&told),
        };
        let mut down = Incoming { pieces: down, splitter: Splitter::default() };
        let hello = match down.next().await {
            Ok(FromGateway::Hello(hello)) => hello,
            Ok(_) => return self.refused("it does not begin with a hello"),
            Err(broken) => return Tried::Away(broken.told),
        };
        let GatewayHello { version, gateway, silence } = hello;
        if !(OLDEST_VERSION..=VERSION).contains(&version) {
            return self.refused(&format!(
                "it speaks version {version} of the frames, and this node versions {OLDEST_VERSION} to {VERSION}"
            ));
        }
        if gateway != self.link.gateway {
            metrics::dialled("another");
            let address = &self.link.address;
            tracing::info!(gateway = %self.link.gateway, %address, other = %gateway, "another gateway is there now");
            return Tried::Closed(Closed::Unwanted);
        }
        Tried::Open(Stream { up, down, silence: silence.clamp(*SILENCES.start(), *SILENCES.end()) })
    }

    fn refused(&self, told: &str) -> Tried {
        metrics::dialled("refused");
        let address = &self.link.address;
        tracing::error!(gateway = %self.link.gateway, address, "a gateway does not take this node's stream: {told}");
        Tried::Closed(Closed::Unreachable(format!("the gateway at {address} does not take the stream: {told}")))
    }

    /// Sends and hears until the stream ends.
    async fn talk(&self, stream: Stream) -> Broken {
        let _open = OpenStream::new(Side::Node);
        let Stream { up, down, silence } = stream;
        tokio::select! {
            biased;
            () = self.link.ended() => Broken { cause: "closed", told: "it was ended here".to_owned() },
            broken = self.hear(down, silence) => broken,
            broken = self.send(up, silence) => broken,
        }
    }

    async fn hear(&self, mut down: Incoming, silence: Duration) -> Broken {
        loop {
            let heard = match timeout_at(Instant::now() + silence, down.next()).await {
                Ok(heard) => heard,
                Err(_) => return Broken { cause: "silent", told: format!("it was silent for {silence:?}") },
            };
            match heard {
                Ok(FromGateway::Ends(ends)) => self.link.take_ends(ends),
                Ok(FromGateway::Alive) => {}
                Ok(FromGateway::Hello(_)) => {
                    return Broken { cause: "malformed", told: "it said hello twice".to_owned() };
                }
                Err(broken) => return broken,
            }
        }
    }

    async fn send(&self, up: mpsc::Sender<Bytes>, silence: Duration) -> Broken {
        let every = WireSettings::alive_every(silence);
        let mut speak_at = Instant::now() + every;
        loop {
            let Ok(permit) = up.reserve().await else {
                return Broken { cause: "broken", told: "it takes no more".to_owned() };
            };
            if let Some(frame) = self.link.next_frame() {
                permit.send(frame);
                speak_at = Instant::now() + every;
                continue;
            }
            if Instant::now() >= speak_at {
                permit.send(FromNode::Alive.encode().into());
                speak_at = Instant::now() + every;
            }
            if self.link.end_if_idle(self.settings.idle) {
                return Broken { cause: "idle", told: "no job was left".to_owned() };
            }
            let _ = timeout_at(speak_at, self.link.woken()).await;
        }
    }
}

impl Incoming {
    async fn next(&mut self) -> Result<FromGateway, Broken> {
        let malformed = |error: crate::frame::Malformed| Broken { cause: "malformed", told: error.to_string() };
        loop {
            if let Some(frame) = self.splitter.next_frame().map_err(malformed)? {
                return FromGateway::decode(&frame).map_err(malformed);
            }
            match self.pieces.next().await {
                Some(Ok(piece)) => self.splitter.push(&piece),
                Some(Err(told)) => return Err(Broken { cause: "broken", told }),
                None => return Err(Broken { cause: "broken", told: "the gateway ended it".to_owned() }),
            }
        }
    }
}

/// Ends a link when it is dropped.
struct EndsLink(Arc<Link>);

impl Drop for EndsLink {
    fn drop(&mut self) {
        self.0.end(&Closed::Lost);
    }
}
