//! Who writes a journal: whoever appends a line, where nothing is in the way, else a thread. And the thread that has the disk follow.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::line::Entry;
use super::segments::Segments;

/// Lines that are written at once.
const MOST_AT_ONCE: usize = 256;
/// How long lines wait for others before the disk follows: as long as file systems keep what is written to them by themselves.
const FOLLOWS_AFTER: Duration = Duration::from_secs(5);

/// What becomes of something.
type Done = oneshot::Sender<io::Result<()>>;

/// What the thread is told.
pub(super) enum Command {
    Append(Entry, Done),
    SetAside(Entry, Done),
    /// Ends it.
    Close(Done),
}

/// What writes the segments; clones are of one.
#[derive(Clone)]
pub(super) struct Pen {
    /// `None` once it is closed.
    segments: Arc<Mutex<Option<Segments>>>,
    /// Whether the disk follows just now.
    is_following: Arc<AtomicBool>,
    follow: SyncSender<()>,
}

impl Pen {
    /// Starts both threads. They end when nobody can tell them anything any more.
    pub(super) fn start(segments: Segments, commands: mpsc::Receiver<Command>) -> io::Result<Self> {
        // One word is enough: it is for all that was written until it is heard.
        let (follow, heard) = sync_channel(1);
        let (newest, is_following) = (segments.newest(), Arc::<AtomicBool>::default());
        let pen =
            Self { segments: Arc::new(Mutex::new(Some(segments))), is_following: Arc::clone(&is_following), follow };
        std::thread::Builder::new()
            .name("souk-journal-disk".to_owned())
            .spawn(move || have_disk_follow(&newest, &is_following, &heard))?;
        let of_thread = pen.clone();
        std::thread::Builder::new().name("souk-journal".to_owned()).spawn(move || of_thread.run(commands))?;
        Ok(pen)
    }

    /// Appends a line; `None` if that could wait for something or has to do more than that.
    pub(super) fn append_at_once(&self, entry: &Entry) -> Option<io::Result<()>> {
        if self.is_following.load(Ordering::Relaxed) {
            return None;
        }
        let mut segments = match self.segments.try_lock() {
            Ok(segments) => segments,
            Err(TryLockError::Poisoned(segments)) => segments.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let written = segments.as_mut()?.append_at_once(entry)?;
        drop(segments);
        self.have_disk_follow();
        Some(written)
    }

    fn run(self, mut commands: mpsc::Receiver<Command>) {
        while let Some(first) = commands.blocking_recv() {
            let more = std::iter::from_fn(|| commands.try_recv().ok());
            let batch: Vec<Command> = std::iter::once(first).chain(more).take(MOST_AT_ONCE).collect();
            let (mut entries, mut waiting) = (Vec::new(), Vec::new());
            for command in batch {
                match command {
                    Command::Append(entry, done) => {
                        entries.push(entry);
                        waiting.push(done);
                    }
                    Command::SetAside(entry, done) => answer(done, self.write(|segments| segments.set_aside(&entry))),
                    Command::Close(done) => {
                        self.append(&entries, waiting);
                        let synced = self.write(|segments| segments.sync());
                        // The folder is free by the time that somebody hears of it.
                        drop(self.lock().take());
                        answer(done, synced);
                        return;
                    }
                }
            }
            self.append(&entries, waiting);
        }
    }

    fn append(&self, entries: &[Entry], waiting: Vec<Done>) {
        let written = self.write(|segments| segments.append(entries));
        if !entries.is_empty() {
            self.have_disk_follow();
        }
        for done in waiting {
            let outcome = written.as_ref().copied().map_err(|error| io::Error::new(error.kind(), error.to_string()));
            answer(done, outcome);
        }
    }

    fn write(&self, write: impl FnOnce(&mut Segments) -> io::Result<()>) -> io::Result<()> {
        self.lock().as_mut().map_or_else(|| Err(io::Error::other("it is closed")), write)
    }

    fn have_disk_follow(&self) {
        if matches!(self.follow.try_send(()), Err(TrySendError::Disconnected(()))) {
            tracing::error!("nobody has the disk follow the journal of usage");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Segments>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer(done: Done, outcome: io::Result<()>) {
    // Who has left does not wait for it.
    let _ = done.send(outcome);
}

fn have_disk_follow(newest: &Mutex<Arc<File>>, is_following: &AtomicBool, told: &Receiver<()>) {
    while told.recv().is_ok() {
        std::thread::sleep(FOLLOWS_AFTER);
        let file = Arc::clone(&newest.lock().unwrap_or_else(PoisonError::into_inner));
        is_following.store(true, Ordering::Relaxed);
        let synced = file.sync_data();
        is_following.store(false, Ordering::Relaxed);
        if let Err(error) = synced {
            tracing::error!(%error, "the disk does not follow the journal of usage");
        }
    }
}
