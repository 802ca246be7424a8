//! A TCP proxy that passes bytes on until it is told otherwise.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They are passed on.
    Pass,
    /// They stay open, and nothing passes: as where a cable is pulled.
    Silent,
    /// They are closed, and new ones are too.
    Closed,
}

/// A proxy before one server. Ends with its connections when dropped.
pub(crate) struct Proxy {
    pub(crate) url: String,
    mode: watch::Sender<Mode>,
    accepted: Arc<AtomicU64>,
    _loop: AbortOnDropHandle<()>,
}

impl Proxy {
    pub(crate) async fn before(target: &str) -> Self {
        let target = target.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (mode, told) = watch::channel(Mode::Pass);
        let accepted = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&accepted);
        let accepting = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(pass(client, target.clone(), told.clone()));
            }
        });
        Self { url, mode, accepted, _loop: AbortOnDropHandle::new(accepting) }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_if_modified(|now| std::mem::replace(now, mode) != mode);
    }

    /// Connections that came so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

async fn pass(mut client: TcpStream, target: String, mut mode: watch::Receiver<Mode>) {
    loop {
        let now = *mode.borrow_and_update();
        match now {
            Mode::Closed => return,
            Mode::Silent if mode.changed().await.is_ok() => {}
            Mode::Silent => return,
            Mode::Pass => break,
        }
    }
    let Ok(mut server) = TcpStream::connect(&target).await else { return };
    // Kept while nothing passes, so that no byte of it is lost.
    let mut passing = pin!(tokio::io::copy_bidirectional(&mut client, &mut server));
    loop {
        let now = *mode.borrow_and_update();
        if now == Mode::Closed {
            return;
        }
        tokio::select! {
            _ = &mut passing, if now == Mode::Pass => return,
            changed = mode.changed() => if changed.is_err() { return },
        }
    }
}
