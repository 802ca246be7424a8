//! The journal of this process: what was let in, and what it used, until its rows are in the database.
//!
//! A folder with one of its own for each process that shares it, of segments, each a file of lines ([`line`]). A line is where it
//! belongs once the kernel has it, which a kill of the process takes nothing from. Who appends one writes it to the newest segment
//! itself, which takes some microseconds; where it would wait, for another or for the disk, it hands the line to a thread, which
//! also removes the oldest segments when all that is in them is written. So a disk that stalls holds up one worker at most. What a
//! loss of power may take is five seconds: another thread has the disk follow that often, and not more, since a write that comes
//! while the disk follows may have to wait for it.
//!
//! What happens when: a process that dies leaves its segments, and a lock that ended with it. The next one to start reads all that
//! nobody has, whatever state they are in, and goes on with what they say; that a request was opened and not settled stays so until it
//! says what became of it. A disk that is full, or a journal
//! that has grown to its bound since the database is away, refuses new requests; of those that were let in all is still kept, in
//! memory where not on disk.

mod index;
pub(super) mod line;
mod pen;
mod segments;

#[cfg(test)]
pub(super) mod examples;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use souk_protocol::{RequestId, RequestRecord};
use tokio::sync::{mpsc, oneshot};

use self::index::{Unfinished, unfinished};
use self::line::{Entry, Lines};
use self::pen::{Command, Pen};
use self::segments::Segments;
use super::opened::Opened;
use crate::metrics;

/// Most processes that share a folder.
const MOST_PROCESSES: usize = 16;
/// Lines that wait for the thread. More would only wait elsewhere.
const LINES_BEHIND: usize = 1024;

/// Where a journal is and how long it may become.
#[derive(Clone, Debug)]
pub struct JournalSettings {
    /// Its folder, which is made if it is not there. Up to 16 processes may share it.
    pub folder: PathBuf,
    /// Bytes of one process beyond which it lets no request in.
    pub max_bytes: u64,
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Too many processes have it.
    #[error(
        "{MOST_PROCESSES} processes have journals of usage in {folder}; give further gateways a data.dir of their own"
    )]
    Taken {
        /// Its folder.
        folder: PathBuf,
    },
    /// It has grown to its bound.
    #[error("{bytes} bytes of usage wait for the database, of at most {limit}")]
    Full {
        /// What it has.
        bytes: u64,
        /// What it may have.
        limit: u64,
    },
    /// Files of it cannot be read or written.
    #[error("the journal of usage in {folder} cannot be used")]
    Io {
        /// Its folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What processes before have left, each in the order of its last words.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// What is to be written.
    pub(crate) settled: Vec<RequestRecord>,
    /// What was under way, and is not known to have ended.
    pub(crate) opened: Vec<Opened>,
}

/// A journal under way.
pub(crate) struct Journal {
    settings: JournalSettings,
    pen: Pen,
    commands: mpsc::Sender<Command>,
    bytes: Arc<AtomicU64>,
    /// Whether the last line could not be written, so that the log tells it once.
    fails: AtomicBool,
}

impl Journal {
    /// Opens the journal and returns what processes before have left. To be called where blocking is allowed.
    pub(crate) fn open(settings: JournalSettings) -> Result<(Self, Left), JournalError> {
        let folder = settings.folder.clone();
        let failed = |source| JournalError::Io { folder: folder.clone(), source };
        let mut free = free_ones(&settings).map_err(failed)?.into_iter();
        let Some(mut segments) = free.next() else { return Err(JournalError::Taken { folder: settings.folder }) };
        let mut left = recover(&mut segments).map_err(failed)?;
        for mut others in free {
            let Left { settled, opened } = recover(&mut others).map_err(failed)?;
            // They are the own before they go where they were.
            let entries = settled.iter().cloned().map(Entry::Settled).chain(opened.iter().cloned().map(Entry::Opened));
            segments
                .append(&entries.collect::<Vec<_>>())
                .and_then(|()| segments.sync())
                .and_then(|()| others.remove_all())
                .map_err(failed)?;
            left.settled.extend(settled);
            left.opened.extend(opened);
        }
        if left != Left::default() {
            let (settled, under_way) = (left.settled.len(), left.opened.len());
            tracing::info!(settled, under_way, "Requests of processes before are in the journal and will be written");
        }
        let (commands, taken) = mpsc::channel(LINES_BEHIND);
        let bytes = segments.bytes();
        let pen = Pen::start(segments, taken).map_err(failed)?;
        Ok((Self { settings, pen, commands, bytes, fails: AtomicBool::new(false) }, left))
    }

    /// A request is about to be queued.
    pub(crate) async fn opened(&self, opened: Opened) -> Result<(), JournalError> {
        let (bytes, limit) = (self.bytes.load(Ordering::Relaxed), self.settings.max_bytes);
        if bytes >= limit {
            return Err(JournalError::Full { bytes, limit });
        }
        let written = self.append(Entry::Opened(opened)).await;
        written.map_err(|source| JournalError::Io { folder: self.settings.folder.clone(), source })
    }

    /// Nothing of it was queued.
    pub(crate) async fn dropped(&self, request: RequestId) {
        self.keep(Entry::Dropped(request)).await;
    }

    /// It is over.
    pub(crate) async fn settled(&self, record: RequestRecord) {
        self.keep(Entry::Settled(record)).await;
    }

    /// The rows of these are written and counted.
    pub(crate) async fn written(&self, requests: Vec<RequestId>) {
        self.keep(Entry::Written(requests)).await;
    }

    /// Keeps what a database will never take where people can look at it, and not among what is to be written.
    pub(crate) async fn set_aside(&self, record: RequestRecord) {
        let (done, is_done) = oneshot::channel();
        let request = record.request.clone();
        let sent = self.commands.send(Command::SetAside(Entry::Settled(record), done)).await;
        let kept = if sent.is_ok() { is_done.await.unwrap_or_else(|_| Err(gone())) } else { Err(gone()) };
        if let Err(error) = kept {
            tracing::error!(%error, %request, "usage that the database refuses cannot be set aside and is lost");
        }
    }

    /// Has the disk follow, and takes no more lines.
    pub(crate) async fn close(&self) {
        let (done, is_done) = oneshot::channel();
        if self.commands.send(Command::Close(done)).await.is_ok() {
            // Without an answer it has ended before.
            let _ = is_done.await;
        }
    }

    /// Bytes of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Appends a line without which nothing is wrong as long as this process lives.
    async fn keep(&self, entry: Entry) {
        match self.append(entry).await {
            Ok(()) => self.fails.store(false, Ordering::Relaxed),
            Err(error) => {
                if !self.fails.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "The journal of usage cannot be written: what is used is in memory alone");
                }
            }
        }
    }

    /// Appends a line; once this returns, a kill takes nothing of it.
    async fn append(&self, entry: Entry) -> io::Result<()> {
        let at_once = match &entry {
            Entry::Opened(_) | Entry::Settled(_) => self.pen.append_at_once(&entry),
            // After these there may be segments to remove.
            Entry::Dropped(_) | Entry::Written(_) => None,
        };
        if let Some(written) = at_once {
            return written;
        }
        let (done, is_done) = oneshot::channel();
        self.commands.send(Command::Append(entry, done)).await.map_err(|_| gone())?;
        is_done.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// The journals that nobody has; where all that there are are taken, another.
fn free_ones(settings: &JournalSettings) -> io::Result<Vec<Segments>> {
    let mut free = Vec::new();
    for number in 1..=MOST_PROCESSES {
        let folder = settings.folder.join(number.to_string());
        if (free.is_empty() || folder.try_exists()?)
            && let Some(segments) = Segments::open(folder, settings.max_bytes)?
        {
            free.push(segments);
        }
    }
    Ok(free)
}

/// What a process left.
fn recover(segments: &mut Segments) -> io::Result<Left> {
    let mut entries = Vec::new();
    for number in segments.numbers() {
        let lines = Lines::read(&segments.read(number)?);
        if lines.num_corrupt > 0 {
            metrics::corrupt_lines(lines.num_corrupt);
            tracing::error!(
                segment = number,
                lines = lines.num_corrupt,
                "Lines of the journal of usage are corrupt; what they said is lost"
            );
        }
        segments.note_all(number, &lines.entries);
        entries.extend(lines.entries);
    }
    let mut left = Left::default();
    for unfinished in unfinished(entries) {
        match unfinished {
            Unfinished::Settled(record) => left.settled.push(record),
            Unfinished::Opened(opened) => left.opened.push(opened),
        }
    }
    Ok(left)
}

fn gone() -> io::Error {
    io::Error::other("its thread has ended")
}

#[cfg(test)]
mod tests;
