//! The files of a journal.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::index::{Index, Number};
use super::line::{Entry, Lines};

/// A segment that is this long is followed by another, unless an eighth of the whole is less.
const MOST_SEGMENT_BYTES: u64 = 16 << 20;
/// Segments beyond which the oldest is looked at: a request that takes long is said again and keeps no more of them.
const MOST_KEPT: usize = 4;
/// The lock of the folder, held as long as the process lives.
const LOCK: &str = "lock";
/// What the database will never take.
const ASIDE: &str = "refused.log";
/// How names of segments end.
const SUFFIX: &str = ".segment";

/// The segments of a journal, of which the newest is written.
pub(super) struct Segments {
    folder: PathBuf,
    index: Index,
    /// Lengths by number, oldest first. The last is the newest's, as far as it is known to be good.
    lengths: Vec<(Number, u64)>,
    /// The newest; what has the disk follow looks at it, too.
    newest: Arc<Mutex<Arc<File>>>,
    most_bytes: u64,
    bytes: Arc<AtomicU64>,
    _lock: File,
}

impl Segments {
    /// Opens the folder and begins a segment; `None` if another process has it.
    pub(super) fn open(folder: PathBuf, max_bytes: u64) -> io::Result<Option<Self>> {
        fs::create_dir_all(&folder)?;
        let lock = File::create(folder.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut lengths = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            // What has another name is not ours.
            if let Some(number) = number_of(&entry.path()) {
                lengths.push((number, entry.metadata()?.len()));
            }
        }
        lengths.sort_unstable();
        let next = lengths.last().map_or(1, |(newest, _)| newest + 1);
        let newest = create(&folder, next)?;
        lengths.push((next, 0));
        let mut index = Index::default();
        lengths.iter().for_each(|(number, _)| index.begin(*number));
        let bytes = lengths.iter().map(|(_, length)| length).sum();
        Ok(Some(Self {
            folder,
            index,
            lengths,
            newest: Arc::new(Mutex::new(Arc::new(newest))),
            most_bytes: MOST_SEGMENT_BYTES.min(max_bytes / 8),
            bytes: Arc::new(AtomicU64::new(bytes)),
            _lock: lock,
        }))
    }

    /// The numbers of all segments of processes before, oldest first.
    pub(super) fn numbers(&self) -> Vec<Number> {
        self.lengths.iter().rev().skip(1).rev().map(|(number, _)| *number).collect()
    }

    /// All bytes of one.
    pub(super) fn read(&self, number: Number) -> io::Result<Vec<u8>> {
        fs::read(path_of(&self.folder, number))
    }

    /// These lines stand in this segment.
    pub(super) fn note_all(&mut self, number: Number, entries: &[Entry]) {
        entries.iter().for_each(|entry| self.index.note(number, entry));
    }

    /// Bytes of all segments, as they change.
    pub(super) fn bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.bytes)
    }

    /// The newest segment's file, as it changes.
    pub(super) fn newest(&self) -> Arc<Mutex<Arc<File>>> {
        Arc::clone(&self.newest)
    }

    /// Appends lines, all or none, and removes segments that nobody needs any more.
    pub(super) fn append(&mut self, entries: &[Entry]) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        if self.newest_length() >= self.most_bytes {
            self.begin_another()?;
            // Only now and then, since the oldest is read for it.
            self.say_again().unwrap_or_else(|error| {
                tracing::warn!(%error, "what keeps the oldest segment of the journal of usage cannot be said again");
            });
        }
        self.write(entries)?;
        // What keeps its lines for longer than they are needed writes them a second time at worst.
        if let Err(error) = self.remove_needless() {
            tracing::warn!(%error, "segments of the journal of usage cannot be removed");
        }
        Ok(())
    }

    /// Appends a line where that is all that there is to do; `None` if it is not.
    pub(super) fn append_at_once(&mut self, entry: &Entry) -> Option<io::Result<()>> {
        (self.newest_length() < self.most_bytes).then(|| self.write(std::slice::from_ref(entry)))
    }

    /// Writes the last words that keep an old segment into the newest.
    fn say_again(&mut self) -> io::Result<()> {
        while let Some(oldest) = self.index.sparse_oldest(MOST_KEPT) {
            let mut needed = Lines::read(&self.read(oldest)?).entries;
            needed.retain(|entry| self.index.needs(oldest, entry));
            self.write(&needed)?;
            self.remove_needless()?;
            if self.lengths.first().is_some_and(|(number, _)| *number == oldest) {
                // A corrupt line was the last word.
                break;
            }
        }
        Ok(())
    }

    /// Appends lines to the newest segment, all or none.
    fn write(&mut self, entries: &[Entry]) -> io::Result<()> {
        let mut lines = Vec::new();
        entries.iter().for_each(|entry| entry.write(&mut lines));
        let (number, length) = *self.lengths.last().expect("there is a newest");
        let file = self.newest_file();
        if let Err(error) = (&*file).write_all(&lines) {
            // What was written of it goes, so that the next line begins a line. Else a segment of its own does that.
            if file.set_len(length).is_err() {
                self.begin_another()?;
            }
            return Err(error);
        }
        self.lengths.last_mut().expect("there is a newest").1 = length + lines.len() as u64;
        self.bytes.fetch_add(lines.len() as u64, Ordering::Relaxed);
        self.note_all(number, entries);
        Ok(())
    }

    /// Appends a line to the file of what the database will never take.
    pub(super) fn set_aside(&self, entry: &Entry) -> io::Result<()> {
        let mut line = Vec::new();
        entry.write(&mut line);
        let mut file = OpenOptions::new().append(true).create(true).open(self.folder.join(ASIDE))?;
        file.write_all(&line)?;
        file.sync_data()
    }

    /// Has the disk follow.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.newest_file().sync_data()
    }

    /// Removes all of them, once what they say is elsewhere.
    pub(super) fn remove_all(self) -> io::Result<()> {
        self.lengths.iter().try_for_each(|(number, _)| fs::remove_file(path_of(&self.folder, *number)))
    }

    fn newest_length(&self) -> u64 {
        self.lengths.last().map_or(0, |(_, length)| *length)
    }

    fn newest_file(&self) -> Arc<File> {
        Arc::clone(&self.newest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn begin_another(&mut self) -> io::Result<()> {
        self.sync()?;
        let number = self.lengths.last().map_or(1, |(newest, _)| newest + 1);
        let file = create(&self.folder, number)?;
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(file);
        self.index.begin(number);
        self.lengths.push((number, 0));
        Ok(())
    }

    fn remove_needless(&mut self) -> io::Result<()> {
        let needless = self.index.take_needless();
        if needless.is_empty() {
            return Ok(());
        }
        // What makes them needless stands in later ones, and is to be on the disk before they go from it.
        let mut outcome = self.sync();
        for number in needless {
            let length = self.lengths.iter().find(|(other, _)| *other == number).map_or(0, |(_, length)| *length);
            self.lengths.retain(|(other, _)| *other != number);
            self.bytes.fetch_sub(length, Ordering::Relaxed);
            outcome = outcome.and(fs::remove_file(path_of(&self.folder, number)));
        }
        outcome
    }
}

/// Makes a segment that is not there.
fn create(folder: &Path, number: Number) -> io::Result<File> {
    let file = OpenOptions::new().append(true).create_new(true).open(path_of(folder, number))?;
    // The name is to survive a loss of power as its lines do.
    File::open(folder)?.sync_all()?;
    Ok(file)
}

fn path_of(folder: &Path, number: Number) -> PathBuf {
    folder.join(format!("{number:020}{SUFFIX}"))
}

fn number_of(path: &Path) -> Option<Number> {
    path.file_name()?.to_str()?.strip_suffix(SUFFIX)?.parse().ok()
}
