//! File descriptors: how many there are, and what becomes of the listener when there are none left.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;

use super::metrics;

/// Descriptors that connections never take: the database, adapters being read, uploads being written.
const FOR_OTHER_USES: u64 = 256;
/// How often the log says that no connection can be accepted.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Raises the soft limit of descriptors to the hard one, logs both, and returns how many connections can be had.
pub fn raise_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let now = getrlimit(Resource::Nofile).current;
    let number = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    tracing::info!(was = number(current), soft = number(now), hard = number(maximum), "Limit of file descriptors");
    if let Err(error) = raised {
        tracing::warn!(%error, "The soft limit of file descriptors cannot be raised to the hard one");
    }
    now.map_or(u64::MAX, |now| now.saturating_sub(FOR_OTHER_USES.min(now / 2)))
}

/// A descriptor in hand, to be able to hang up on a client when there are no others: a connection that is not accepted
/// stays in the kernel's queue, and its client waits.
pub(super) struct Spare {
    file: Option<File>,
    said: Option<Instant>,
    unsaid: u64,
}

impl Spare {
    pub(super) fn new() -> Self {
        Self { file: File::open("/dev/null").ok(), said: None, unsaid: 0 }
    }

    /// After an error of `accept`: says so at times, hangs up on who waits if there are no descriptors, and pauses.
    pub(super) async fn recover(&mut self, listener: &TcpListener, error: &io::Error) {
        let is_out =
            [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()));
        if is_connection_error(error) {
            return;
        }
        metrics::accept_error(if is_out { "descriptors" } else { "other" });
        self.say(error);
        if is_out && self.file.take().is_some() {
            // What is accepted with the spare descriptor is dropped at once.
            let hung_up = tokio::time::timeout(Duration::from_millis(10), listener.accept()).await;
            drop(hung_up);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        if self.file.is_none() {
            self.file = File::open("/dev/null").ok();
        }
    }

    fn say(&mut self, error: &io::Error) {
        self.unsaid += 1;
        if self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            tracing::error!(%error, times = self.unsaid, "No connection can be accepted; the listener goes on");
            (self.said, self.unsaid) = (Some(Instant::now()), 0);
        }
    }
}

/// Whether only the one connection broke, before it was accepted.
fn is_connection_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
