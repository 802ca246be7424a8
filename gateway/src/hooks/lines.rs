//! The way of what hooks say to where their owners read it: in batches, beside the requests, and lost rather than waited for.

use std::sync::Arc;
use std::time::Duration;

use souk_protocol::hooks::HookLine;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::source::HookSource;
use crate::metrics;

/// Lines that may wait: some seconds of a tenant that logs all that it may. Beyond it they are dropped and counted.
const MAX_WAITING: usize = 4096;
/// Most lines that are written at once.
const MAX_BATCH: usize = 256;
/// Pause after they could not be written.
const PAUSE: Duration = Duration::from_secs(1);

/// Takes lines.
pub(crate) struct Lines {
    waiting: mpsc::Sender<HookLine>,
    _writer: AbortOnDropHandle<()>,
}

impl Lines {
    /// Begins to write to `source`. Call it within a tokio runtime.
    pub(crate) fn new(source: Arc<dyn HookSource>) -> Self {
        let (waiting, lines) = mpsc::channel(MAX_WAITING);
        Self { waiting, _writer: AbortOnDropHandle::new(tokio::spawn(write(lines, source))) }
    }

    /// Hands over a line.
    pub(crate) fn push(&self, line: HookLine) {
        if self.waiting.try_send(line).is_err() {
            metrics::hook_line_lost();
        }
    }
}

async fn write(mut lines: mpsc::Receiver<HookLine>, source: Arc<dyn HookSource>) {
    let mut batch = Vec::new();
    while lines.recv_many(&mut batch, MAX_BATCH).await > 0 {
        if let Err(error) = source.write_lines(std::mem::take(&mut batch)).await {
            tracing::warn!(%error, "what hooks said cannot be written");
            tokio::time::sleep(PAUSE).await;
        }
    }
}
