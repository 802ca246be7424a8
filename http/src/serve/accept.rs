//! The loop that accepts connections, and how it ends.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::connection::{self, Ending, Shared};
use super::descriptors::Spare;
use super::limits::Connections;
use super::metrics;
use super::settings::ServerSettings;
use super::tls::Certificate;

/// All listeners of a process: they share the gates of connections and end together.
pub struct Server {
    settings: Arc<ServerSettings>,
    connections: Connections,
    ending: Ending,
    tasks: TaskTracker,
}

/// A listener that accepts, until it is dropped.
#[must_use = "dropping it closes the port"]
pub struct Listening {
    /// Where.
    pub address: SocketAddr,
    _loop: AbortOnDropHandle<()>,
    /// Reads the certificate again when its files change.
    _follower: Option<AbortOnDropHandle<()>>,
}

impl Server {
    /// A server without listeners that may hold `descriptors` connections, as [`raise_limit`](super::raise_limit) says.
    #[must_use]
    pub fn new(settings: ServerSettings, descriptors: u64) -> Self {
        let connections = Connections::new(&settings, descriptors);
        Self { settings: Arc::new(settings), connections, ending: Ending::default(), tasks: TaskTracker::new() }
    }

    /// Answers what comes to `listener` with `router`, encrypted if there is a certificate. Call it within a runtime.
    ///
    /// # Errors
    /// If the listener has no address.
    pub fn listen(
        &self,
        listener: TcpListener,
        router: Router,
        certificate: Option<Certificate>,
    ) -> std::io::Result<Listening> {
        let address = listener.local_addr()?;
        let follower =
            certificate.clone().map(|certificate| AbortOnDropHandle::new(tokio::spawn(certificate.follow())));
        let shared = Arc::new(Shared {
            settings: Arc::clone(&self.settings),
            connections: self.connections.clone(),
            router,
            certificate,
            ending: self.ending.clone(),
        });
        let accepting = accept(listener, shared, self.tasks.clone());
        Ok(Listening { address, _loop: AbortOnDropHandle::new(tokio::spawn(accepting)), _follower: follower })
    }

    /// Connections that are open.
    #[must_use]
    pub fn open_connections(&self) -> u64 {
        self.connections.open()
    }

    /// Lets connections end: those without a request at once, the others with their answer. What is left at `deadline`
    /// is cut off, and their number returned.
    pub async fn close(self, deadline: Instant) -> u64 {
        self.ending.closing.cancel();
        self.tasks.close();
        if tokio::time::timeout_at(deadline, self.tasks.wait()).await.is_ok() {
            return 0;
        }
        self.ending.cut_off.cancel();
        self.tasks.len() as u64
    }
}

/// Accepts until it is dropped or told to close. Nothing that happens to a connection ends it.
async fn accept(listener: TcpListener, shared: Arc<Shared>, tasks: TaskTracker) {
    let mut spare = Spare::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.ending.closing.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let shared = Arc::clone(&shared);
                tasks.spawn(async move {
                    let served = Box::pin(connection::serve(&shared, stream, peer.ip().to_canonical()));
                    if shared.ending.cut_off.run_until_cancelled(served).await.is_none() {
                        metrics::cut_off("drain");
                    }
                });
            }
            Err(error) => spare.recover(&listener, &error).await,
        }
    }
}
