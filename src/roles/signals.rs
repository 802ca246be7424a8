//! What tells the process to end.

use std::pin::Pin;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and Ctrl-C.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// If the system does not let it.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let listen = |kind, name| signal(kind).with_context(|| format!("cannot listen for {name}"));
        Ok(Self {
            terminate: listen(SignalKind::terminate(), "SIGTERM")?,
            interrupt: listen(SignalKind::interrupt(), "SIGINT")?,
        })
    }

    /// Waits for the next of them.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// The same signals, or whatever else tells the process to end.
    pub(super) fn or(self, other: impl Future<Output = ()> + Send + 'static) -> SignalsOr {
        SignalsOr { signals: self, other: Box::pin(other) }
    }

    /// Waits for a signal, then for `drain`. A second signal ends everything at once.
    ///
    /// # Errors
    /// A second signal.
    pub(super) async fn then(self, drain: impl Future<Output = ()>) -> anyhow::Result<()> {
        self.or(std::future::pending()).then(drain).await
    }
}

/// See [`Signals::or`].
pub(super) struct SignalsOr {
    signals: Signals,
    other: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl SignalsOr {
    /// As [`Signals::then`].
    ///
    /// # Errors
    /// A second signal.
    pub(super) async fn then(self, drain: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Self { mut signals, other } = self;
        tokio::select! {
            () = signals.next() => {}
            () = other => {}
        }
        tracing::info!("Stopping: new requests are refused, running answers may end");
        tokio::select! {
            () = drain => Ok(()),
            () = signals.next() => anyhow::bail!("a second signal came: ended at once, with answers still running"),
        }
    }
}
