//! The thread that writes a journal, and the one that has the disk follow.

use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::line::Entry;
use super::segments::Segments;

/// Lines that are written at once.
const MOST_AT_ONCE: usize = 256;
/// How long lines wait for others before the disk follows.
const FOLLOWS_AFTER: Duration = Duration::from_millis(100);

/// What becomes of something.
type Done = oneshot::Sender<io::Result<()>>;

/// What the thread is told.
pub(super) enum Command {
    Append(Entry, Done),
    SetAside(Entry, Done),
    /// Ends it.
    Close(Done),
}

/// The thread's own.
pub(super) struct Thread {
    segments: Segments,
    follow: SyncSender<()>,
}

impl Thread {
    /// Starts both threads. They end when nobody can tell them anything any more.
    pub(super) fn start(segments: Segments, commands: mpsc::Receiver<Command>) -> io::Result<()> {
        // One word is enough: it is for all that was written until it is heard.
        let (follow, heard) = sync_channel(1);
        let newest = segments.newest();
        std::thread::Builder::new()
            .name("souk-journal-disk".to_owned())
            .spawn(move || have_disk_follow(&newest, &heard))?;
        let thread = Self { segments, follow };
        std::thread::Builder::new().name("souk-journal".to_owned()).spawn(move || thread.run(commands))?;
        Ok(())
    }

    fn run(mut self, mut commands: mpsc::Receiver<Command>) {
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
                    Command::SetAside(entry, done) => answer(done, self.segments.set_aside(&entry)),
                    Command::Close(done) => {
                        self.append(&entries, waiting);
                        let synced = self.segments.sync();
                        // The folder is free by the time that somebody hears of it.
                        drop(self);
                        answer(done, synced);
                        return;
                    }
                }
            }
            self.append(&entries, waiting);
        }
    }

    fn append(&mut self, entries: &[Entry], waiting: Vec<Done>) {
        let written = self.segments.append(entries);
        if !entries.is_empty() && matches!(self.follow.try_send(()), Err(TrySendError::Disconnected(()))) {
            tracing::error!("nobody has the disk follow the journal of usage");
        }
        for done in waiting {
            let outcome = written.as_ref().copied().map_err(|error| io::Error::new(error.kind(), error.to_string()));
            answer(done, outcome);
        }
    }
}

fn answer(done: Done, outcome: io::Result<()>) {
    // Who has left does not wait for it.
    let _ = done.send(outcome);
}

fn have_disk_follow(newest: &Mutex<Arc<File>>, told: &Receiver<()>) {
    while told.recv().is_ok() {
        std::thread::sleep(FOLLOWS_AFTER);
        let file = Arc::clone(&newest.lock().unwrap_or_else(PoisonError::into_inner));
        if let Err(error) = file.sync_data() {
            tracing::error!(%error, "the disk does not follow the journal of usage");
        }
    }
}
