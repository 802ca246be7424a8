//! What tells the process to end.

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

    /// Waits for a signal, then for `drain`. A second signal ends everything at once.
    ///
    /// # Errors
    /// A second signal.
    pub(super) async fn then(mut self, drain: impl Future<Output = ()>) -> anyhow::Result<()> {
        self.next().await;
        tracing::info!("Stopping: new requests are refused, running answers may end");
        tokio::select! {
            () = drain => Ok(()),
            () = self.next() => anyhow::bail!("a second signal came: ended at once, with answers still running"),
        }
    }
}
