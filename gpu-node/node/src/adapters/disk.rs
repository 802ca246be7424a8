//! Packed adapters on the local disk: what a load from there saves is fetching, checking and packing.
//!
//! One file for each adapter, named
//! `<digest>-v<version of the file>.<version of the slabs>-<start of the base's digest>`, written beside and renamed,
//! so that a name never stands for half a file. Files are read whole, and what does not match its checksum is removed
//! and fetched again from the source. The tier is a cache: whatever goes wrong with the disk costs time and never a
//! request. A full disk costs older files, and after a few of them in vain the tier pauses.

mod format;
mod index;
mod stats;

use std::fs;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use souk_models::adapter::PackedAdapter;
use souk_protocol::{Digest, LlamaShape, wall_clock};

use self::index::{FileKey, Index, UNFINISHED};
pub use self::stats::DiskStats;
use crate::background::{self, StandBack};

/// Adapters that wait to be written. Each keeps its slabs in memory; those beyond it are written when they are next
/// loaded.
const MAX_WAITING_WRITES: usize = 16;
/// Most times that the writing of one file is begun. On a full disk the tier gives up as many bytes before each further
/// attempt as the file has; a disk that others have filled is not worth the whole cache.
const MAX_WRITE_ATTEMPTS: usize = 4;
/// Pause after a write that failed: a full disk does not get better by trying again for each adapter.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(60);
/// The disk tier of a node. Clones are handles to the same folder.
#[derive(Clone, Debug)]
pub struct DiskTier {
    shared: Arc<DiskState>,
    /// To the thread that writes, which ends with the last handle.
    work: SyncSender<Work>,
}

#[derive(Debug)]
struct DiskState {
    folder: PathBuf,
    budget_bytes: u64,
    base: Digest,
    shape: LlamaShape,
    // A std mutex: held for look-ups, never while a file is read or written.
    index: Mutex<Index>,
}

enum Work {
    Write(Arc<PackedAdapter>),
    Remove(FileKey),
}

impl DiskTier {
    /// Opens the folder, makes it if need be, and takes stock: unfinished files and those of other versions are
    /// removed, foreign ones left alone. What exceeds the budget goes, oldest first. No file is opened: what is known
    /// of each is its name, length and age. A full disk is no reason against it: it can be read from, and gives way to
    /// what is new.
    ///
    /// Several nodes may use one folder at once, each within a budget of its own.
    ///
    /// # Errors
    /// If the folder cannot be made, read or written to. A node goes on without a disk tier then.
    pub fn open(folder: &Path, budget_bytes: u64, base: Digest, shape: LlamaShape) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let index = Index::take_stock(folder)?;
        let probe = format!("{UNFINISHED}probe");
        match write_file(folder, &probe, b"souk") {
            Err(error) if !is_full(&error) => return Err(error),
            _ => drop(fs::remove_file(folder.join(probe))),
        }
        let shared =
            Arc::new(DiskState { folder: folder.to_owned(), budget_bytes, base, shape, index: Mutex::new(index) });
        shared.make_room(0);
        let (work, waiting) = sync_channel(MAX_WAITING_WRITES);
        let of_thread = Arc::clone(&shared);
        std::thread::Builder::new().name("souk-disk-tier".to_owned()).spawn(move || of_thread.work_off(&waiting))?;
        Ok(Self { shared, work })
    }

    /// The adapter, if it is on disk and intact. Blocks.
    #[must_use]
    pub fn read(&self, digest: &Digest) -> Option<PackedAdapter> {
        let shared = &self.shared;
        let key = shared.key_of(digest);
        let Some(size_bytes) = shared.lock().touch(&key) else {
            self.missed();
            return None;
        };
        let path = shared.path_of(&key);
        let reason = match read_file(&path, size_bytes) {
            Ok(file) => match format::decode(&file, digest, &shared.base, &shared.shape) {
                Ok(adapter) => {
                    shared.lock().stats.hits += 1;
                    // Keeps the order of use over a restart.
                    let _ = fs::File::open(&path).and_then(|file| file.set_modified(wall_clock::now()));
                    return Some(adapter);
                }
                Err(error) => error.to_string(),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Not damaged: another node that shares the folder has made room, or somebody has cleaned up.
                shared.lock().forget(&key);
                self.missed();
                return None;
            }
            Err(error) => error.to_string(),
        };
        tracing::warn!(adapter.digest = %digest, reason, "a packed adapter on disk is damaged; it is fetched again");
        shared.remove(&key);
        let mut index = shared.lock();
        index.stats.corrupt += 1;
        index.stats.misses += 1;
        None
    }

    /// Whether the adapter can be read from here.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.shared.lock().has(&self.shared.key_of(digest))
    }

    /// The adapters of this base that were used last, the last one first, at most `most` of them.
    #[must_use]
    pub fn latest(&self, most: usize) -> Vec<Digest> {
        self.shared.lock().latest(&self.shared.base, most)
    }

    /// Has the adapter written, in its own time. Does not block; false when so much waits to be written, or the last
    /// write has failed so lately, that it is left for the next load.
    pub fn write(&self, adapter: &Arc<PackedAdapter>) -> bool {
        let mut index = self.shared.lock();
        let key = self.shared.key_of(&adapter.digest);
        if index.is_paused() || index.to_write.contains(&key) {
            return !index.is_paused();
        }
        let is_sent = self.work.try_send(Work::Write(Arc::clone(adapter))).is_ok();
        if is_sent {
            index.to_write.insert(key);
        }
        is_sent
    }

    /// Counts an adapter that is not here.
    pub(super) fn missed(&self) {
        self.shared.lock().stats.misses += 1;
    }

    /// Removes an adapter, also one that waits to be written or is being written.
    pub fn remove(&self, digest: &Digest) {
        let key = self.shared.key_of(digest);
        self.shared.lock().to_write.remove(&key);
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.work.try_send(Work::Remove(key)) {
            self.shared.remove(&key);
        }
    }

    /// What is there, and counts since the start.
    #[must_use]
    pub fn stats(&self) -> DiskStats {
        self.shared.lock().stats()
    }
}

impl DiskState {
    /// The thread's life: one piece of work after the other, behind everything else on the machine.
    fn work_off(&self, waiting: &Receiver<Work>) {
        background::yield_to_others(StandBack::Far);
        for work in waiting {
            match work {
                Work::Write(adapter) => self.write(&adapter),
                Work::Remove(key) => drop(self.remove(&key)),
            }
            // Nobody else may look for a while.
            let stats = self.lock().stats();
            stats.publish();
        }
    }

    fn write(&self, adapter: &PackedAdapter) {
        let key = self.key_of(&adapter.digest);
        {
            let mut index = self.lock();
            if index.has(&key) || index.is_paused() || !index.to_write.contains(&key) {
                index.to_write.remove(&key);
                return;
            }
        }
        let file = format::encode(adapter, &self.base);
        let size_bytes = file.len() as u64;
        if size_bytes > self.budget_bytes {
            self.lock().to_write.remove(&key);
            return;
        }
        self.make_room(size_bytes);
        let written = self.put(&key, &file);
        let mut index = self.lock();
        let is_wanted = index.to_write.remove(&key);
        match written {
            Ok(()) => {
                index.stats.writes += 1;
                index.insert(key, size_bytes);
                drop(index);
                if !is_wanted {
                    // It was removed meanwhile.
                    self.remove(&key);
                }
            }
            Err(error) => {
                let folder = self.folder.display();
                index.stats.write_failures += 1;
                if error.kind() == io::ErrorKind::IsADirectory {
                    tracing::warn!(%error, %folder, name = %key, "cannot keep a packed adapter: its name is taken");
                } else {
                    tracing::warn!(%error, %folder, pause = ?PAUSE_AFTER_ERROR, "cannot keep packed adapters on disk");
                    index.paused_until = Some(Instant::now() + PAUSE_AFTER_ERROR);
                }
            }
        }
    }

    /// Writes a file, at the cost of others if the disk is full.
    fn put(&self, key: &FileKey, file: &[u8]) -> io::Result<()> {
        let name = key.to_string();
        let mut written = write_file(&self.folder, &name, file);
        for _ in 1..MAX_WRITE_ATTEMPTS {
            match &written {
                Err(error) if is_full(error) => {
                    if !self.evict(file.len() as u64) {
                        break;
                    }
                }
                // Another node that has just started took the unfinished file for one that a crash has left.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                _ => break,
            }
            written = write_file(&self.folder, &name, file);
        }
        written
    }

    /// Removes what was used longest ago until so many more bytes fit into the budget.
    fn make_room(&self, size_bytes: u64) {
        let bytes = self.lock().stats.bytes;
        self.evict(bytes.saturating_add(size_bytes).saturating_sub(self.budget_bytes));
    }

    /// Removes files of so many bytes in all, those first that were used longest ago. False if there was nothing to
    /// remove.
    fn evict(&self, size_bytes: u64) -> bool {
        let mut freed = 0;
        while freed < size_bytes {
            let Some(oldest) = self.lock().oldest() else { break };
            let Some(size_bytes) = self.remove(&oldest) else { continue };
            freed += size_bytes;
            self.lock().stats.evictions += 1;
        }
        freed > 0
    }

    /// Removes a file. Its size, if it was on the books.
    fn remove(&self, key: &FileKey) -> Option<u64> {
        // Off the books first: what is not there is not read.
        let size_bytes = self.lock().forget(key)?;
        if let Err(error) = fs::remove_file(self.path_of(key))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, name = %key, "cannot remove a packed adapter");
        }
        Some(size_bytes)
    }

    fn key_of(&self, digest: &Digest) -> FileKey {
        FileKey::new(digest, &self.base)
    }

    fn path_of(&self, key: &FileKey) -> PathBuf {
        self.folder.join(key.to_string())
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a file that should have so many bytes, and not many more should it have grown.
fn read_file(path: &Path, size_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(size_bytes).unwrap_or(0).saturating_add(1));
    fs::File::open(path)?.take(size_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes beside and renames. Not synced: what a crash leaves half written has the wrong checksum. The name beside is
/// nobody else's: nodes that share the folder may have the same process id, each in a container of its own.
fn write_file(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let unfinished = folder.join(format!("{UNFINISHED}{name}-{:016x}", RandomState::new().build_hasher().finish()));
    let written = fs::File::create_new(&unfinished)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&unfinished, folder.join(name)));
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written
}

/// Whether the disk, or what this user may have of it, is full.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests;
