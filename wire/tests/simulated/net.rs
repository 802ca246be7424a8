//! A network of pipes that can be cut, fall silent and be slow, under virtual time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use souk_testkit::Random;
use souk_wire::{Dial, DialError, Dialled, Receiver};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

/// What becomes of what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Pass,
    /// Connections stay open and nothing passes.
    Silent,
    /// They are gone, and so is what was under way.
    Cut,
}

/// Clones are the same network.
#[derive(Clone)]
pub(crate) struct Net(Arc<Mutex<State>>);

struct State {
    random: Random,
    gateways: HashMap<String, Receiver>,
    connections: Vec<Connection>,
    num_dialled: usize,
}

struct Connection {
    node: usize,
    address: String,
    mode: watch::Sender<Mode>,
}

/// The network as one node has it.
pub(crate) struct NodeNet {
    pub(crate) net: Net,
    pub(crate) node: usize,
}

impl Net {
    pub(crate) fn new(seed: u64) -> Self {
        let (gateways, connections) = (HashMap::new(), Vec::new());
        Self(Arc::new(Mutex::new(State { random: Random::new(seed), gateways, connections, num_dialled: 0 })))
    }

    pub(crate) fn listen(&self, address: &str, receiver: Option<Receiver>) {
        let mut state = self.0.lock().unwrap();
        match receiver {
            Some(receiver) => state.gateways.insert(address.to_owned(), receiver),
            None => state.gateways.remove(address),
        };
    }

    /// Sets what becomes of all connections for which `which` holds, by node and address.
    pub(crate) fn set(&self, mode: Mode, which: impl Fn(usize, &str) -> bool) {
        let mut state = self.0.lock().unwrap();
        state.connections.retain(|connection| connection.mode.receiver_count() > 0);
        for connection in state.connections.iter().filter(|one| which(one.node, &one.address)) {
            connection.mode.send_replace(mode);
        }
    }

    pub(crate) fn num_dialled(&self) -> usize {
        self.0.lock().unwrap().num_dialled
    }

    fn delay(&self) -> Duration {
        let mut state = self.0.lock().unwrap();
        // Mostly quick, now and then slow enough to be taken for lost almost.
        let most = if state.random.below(20) == 0 { 400 } else { 5 };
        Duration::from_millis(state.random.below(most))
    }

    fn below(&self, bound: u64) -> usize {
        self.0.lock().unwrap().random.below(bound) as usize
    }

    /// Passes pieces on in their order, cut anew and later.
    fn pass(
        &self,
        mut pieces: BoxStream<'static, Bytes>,
        mut mode: watch::Receiver<Mode>,
    ) -> BoxStream<'static, Result<Bytes, String>> {
        let (sender, receiver) = mpsc::channel::<Result<Bytes, String>>(4);
        let net = self.clone();
        tokio::spawn(async move {
            loop {
                let piece = tokio::select! {
                    biased;
                    _ = mode.wait_for(|mode| *mode == Mode::Cut) => break,
                    () = sender.closed() => return,
                    piece = pieces.next() => piece,
                };
                let Some(mut piece) = piece else { return };
                sleep(net.delay()).await;
                while !piece.is_empty() {
                    let part = piece.split_to((1 + net.below(64)).min(piece.len()));
                    let mut passes = mode.clone();
                    tokio::select! {
                        biased;
                        _ = mode.wait_for(|mode| *mode == Mode::Cut) => {
                            let _ = sender.try_send(Err("the connection was reset".to_owned()));
                            return;
                        }
                        sent = async {
                            if passes.wait_for(|mode| *mode == Mode::Pass).await.is_err() {
                                return Ok(());
                            }
                            sender.send(Ok(part)).await
                        } => if sent.is_err() { return },
                    }
                }
            }
            let _ = sender.try_send(Err("the connection was reset".to_owned()));
        });
        stream::unfold(receiver, |mut pieces| async { Some((pieces.recv().await?, pieces)) }).boxed()
    }
}

#[async_trait]
impl Dial for NodeNet {
    async fn dial(&self, address: &str, hello: Bytes) -> Result<Dialled, DialError> {
        let Self { net, node } = self;
        sleep(net.delay()).await;
        let receiver = net.0.lock().unwrap().gateways.get(address).cloned();
        let Some(receiver) = receiver else { return Err(DialError::Away("nobody listens".to_owned())) };
        if net.below(12) == 0 {
            return Err(DialError::Away("a packet was lost".to_owned()));
        }
        let (sender, told) = watch::channel(Mode::Pass);
        let connection = Connection { node: *node, address: address.to_owned(), mode: sender };
        {
            let mut state = net.0.lock().unwrap();
            state.connections.push(connection);
            state.num_dialled += 1;
        }
        let (up, frames) = mpsc::channel(2);
        let frames = stream::unfold(frames, |mut frames| async { Some((frames.recv().await?, frames)) });
        let pieces = net.pass(stream::once(std::future::ready(hello)).chain(frames).boxed(), told.clone());
        let down = match receiver.accept(pieces).await {
            Ok(down) => net.pass(down, told),
            Err(refused) => return Err(DialError::Refused(refused.to_string())),
        };
        Ok(Dialled { up, down })
    }
}
