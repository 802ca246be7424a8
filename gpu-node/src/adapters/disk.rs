//! Packed adapters on the local disk: what a load from there saves is fetching, checking and packing.
//!
//! One file for each adapter, named `<digest>-v<version of the file>.<version of the slabs>-<start of the base's digest>`,
//! written beside and renamed, so that a name never stands for half a file. Files are read whole, and what does not
//! match its checksum is removed and fetched again from the source. The tier is a cache: whatever goes wrong with the
//! disk costs time and never a request.

mod format;

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use souk_kernels::ops::LoraPair;
use souk_protocol::{Digest, LlamaShape};

use super::device::DeviceAdapter;
use crate::background;

/// Adapters that wait to be written. Each keeps its slabs in memory; those beyond it are written when they are next
/// loaded.
const MAX_WAITING_WRITES: usize = 16;
/// Pause after a write that failed: a full disk does not get better by trying again for each adapter.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(60);
/// How the names of unfinished files begin.
const UNFINISHED: &str = ".unfinished-";

/// The disk tier of a node. Clones are handles to the same folder.
#[derive(Clone, Debug)]
pub struct DiskTier {
    shared: Arc<Shared>,
    /// To the thread that writes, which ends with the last handle.
    work: SyncSender<Work>,
}

/// Counts since the start, and what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files.
    pub files: usize,
    /// Adapters that were read from disk.
    pub hits: u64,
    /// Adapters that were not there.
    pub misses: u64,
    /// Files that were written.
    pub writes: u64,
    /// Files that could not be written.
    pub write_failures: u64,
    /// Files that had to go to make room.
    pub evictions: u64,
    /// Files that were not what they should be.
    pub corrupt: u64,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    budget_bytes: u64,
    base: Digest,
    shape: LlamaShape,
    // A std mutex: held for look-ups, never while a file is read or written.
    index: Mutex<Index>,
}

#[derive(Debug, Default)]
struct Index {
    files: HashMap<String, File>,
    stats: DiskStats,
    /// Counts uses: what was used longest ago has the lowest number.
    clock: u64,
    paused_until: Option<Instant>,
}

#[derive(Debug)]
struct File {
    size_bytes: u64,
    used: u64,
}

enum Work {
    Write(Arc<DeviceAdapter>),
    Remove(Digest),
}

impl DiskTier {
    /// Opens the folder, makes it if need be, and takes stock: unfinished files and those of other versions are removed,
    /// foreign ones left alone. What exceeds the budget goes, oldest first.
    ///
    /// # Errors
    /// If the folder cannot be made, read or written to. A node goes on without a disk tier then.
    pub fn open(folder: &Path, budget_bytes: u64, base: Digest, shape: LlamaShape) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let probe = folder.join(format!("{UNFINISHED}probe-{}", std::process::id()));
        fs::write(&probe, b"souk")?;
        fs::remove_file(&probe)?;
        let index = take_stock(folder)?;
        let shared =
            Arc::new(Shared { folder: folder.to_owned(), budget_bytes, base, shape, index: Mutex::new(index) });
        shared.make_room(0);
        let (work, waiting) = sync_channel(MAX_WAITING_WRITES);
        let of_thread = Arc::clone(&shared);
        std::thread::Builder::new().name("souk-disk-tier".to_owned()).spawn(move || of_thread.work_off(&waiting))?;
        Ok(Self { shared, work })
    }

    /// The adapter, if it is on disk and intact. Blocks.
    #[must_use]
    pub fn read(&self, digest: &Digest) -> Option<DeviceAdapter> {
        let shared = &self.shared;
        let name = shared.name_of(digest);
        let Some(size_bytes) = shared.lock().touch(&name) else {
            self.missed();
            return None;
        };
        let path = shared.folder.join(&name);
        let read = read_file(&path, size_bytes).map_err(|error| error.to_string()).and_then(|file| {
            format::decode(&file, digest, &shared.base, &shared.shape).map_err(|error| error.to_string())
        });
        match read {
            Ok(adapter) => {
                shared.lock().stats.hits += 1;
                // Keeps the order of use over a restart.
                let _ = fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                Some(adapter)
            }
            Err(reason) => {
                tracing::warn!(adapter.digest = %digest, reason, "a packed adapter on disk is damaged; it is fetched again");
                shared.remove(&name);
                let mut index = shared.lock();
                index.stats.corrupt += 1;
                index.stats.misses += 1;
                None
            }
        }
    }

    /// Whether the adapter can be read from here.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.shared.lock().files.contains_key(&self.shared.name_of(digest))
    }

    /// Has the adapter written, in its own time. Does not block; false when so much waits to be written that it is left
    /// for the next load.
    pub fn write(&self, adapter: &Arc<DeviceAdapter>) -> bool {
        self.work.try_send(Work::Write(Arc::clone(adapter))).is_ok()
    }

    /// Counts an adapter that is not here.
    pub(super) fn missed(&self) {
        self.shared.lock().stats.misses += 1;
    }

    /// Removes an adapter, also one that waits to be written.
    pub fn remove(&self, digest: &Digest) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.work.try_send(Work::Remove(*digest)) {
            self.shared.remove(&self.shared.name_of(digest));
        }
    }

    /// What is there, and counts since the start.
    #[must_use]
    pub fn stats(&self) -> DiskStats {
        self.shared.lock().stats()
    }
}

impl Shared {
    /// The thread's life: one piece of work after the other, behind everything else on the machine.
    fn work_off(&self, waiting: &Receiver<Work>) {
        background::yield_to_others();
        for work in waiting {
            match work {
                Work::Write(adapter) => self.write(&adapter),
                Work::Remove(digest) => self.remove(&self.name_of(&digest)),
            }
            // Nobody else may look for a while.
            let stats = self.lock().stats();
            stats.publish();
        }
    }

    fn write(&self, adapter: &DeviceAdapter) {
        let name = self.name_of(&adapter.digest);
        {
            let index = self.lock();
            if index.files.contains_key(&name) || index.paused_until.is_some_and(|until| Instant::now() < until) {
                return;
            }
        }
        let file = format::encode(adapter, &self.base);
        let size_bytes = file.len() as u64;
        if size_bytes > self.budget_bytes {
            return;
        }
        self.make_room(size_bytes);
        match write_file(&self.folder, &name, &file) {
            Ok(()) => {
                let mut index = self.lock();
                index.stats.writes += 1;
                index.insert(name, size_bytes);
            }
            Err(error) => {
                let folder = self.folder.display();
                tracing::warn!(%error, %folder, pause = ?PAUSE_AFTER_ERROR, "cannot keep packed adapters on disk");
                let mut index = self.lock();
                index.stats.write_failures += 1;
                index.paused_until = Some(Instant::now() + PAUSE_AFTER_ERROR);
            }
        }
    }

    /// Removes what was used longest ago until so many more bytes fit.
    fn make_room(&self, size_bytes: u64) {
        loop {
            let mut index = self.lock();
            if index.stats.bytes.saturating_add(size_bytes) <= self.budget_bytes {
                return;
            }
            let oldest = index.files.iter().min_by_key(|(_, file)| file.used).map(|(name, _)| name.clone());
            let Some(oldest) = oldest else { return };
            index.stats.evictions += 1;
            drop(index);
            self.remove(&oldest);
        }
    }

    fn remove(&self, name: &str) {
        // Off the books first: what is not there is not read.
        if self.lock().forget(name)
            && let Err(error) = fs::remove_file(self.folder.join(name))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, name, "cannot remove a packed adapter");
        }
    }

    fn name_of(&self, digest: &Digest) -> String {
        format!("{}{}{}", digest.hex(), version_suffix(), &self.base.hex()[..12])
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn insert(&mut self, name: String, size_bytes: u64) {
        self.clock += 1;
        self.stats.bytes += size_bytes;
        if let Some(before) = self.files.insert(name, File { size_bytes, used: self.clock }) {
            self.stats.bytes -= before.size_bytes;
        }
    }

    /// Counts a use. The size of the file, if it is there.
    fn touch(&mut self, name: &str) -> Option<u64> {
        self.clock += 1;
        let file = self.files.get_mut(name)?;
        file.used = self.clock;
        Some(file.size_bytes)
    }

    fn forget(&mut self, name: &str) -> bool {
        let file = self.files.remove(name);
        self.stats.bytes -= file.as_ref().map_or(0, |file| file.size_bytes);
        file.is_some()
    }

    fn stats(&self) -> DiskStats {
        DiskStats { files: self.files.len(), ..self.stats }
    }
}

/// Lists the folder, in the order in which files were last used.
fn take_stock(folder: &Path) -> io::Result<Index> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (Ok(name), Ok(metadata)) = (entry.file_name().into_string(), entry.metadata()) else { continue };
        if !metadata.is_file() {
            continue;
        }
        match kind_of(&name) {
            Kind::Current => found.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), name, metadata.len())),
            Kind::Stale => drop(fs::remove_file(entry.path())),
            Kind::Foreign => {}
        }
    }
    found.sort();
    let mut index = Index::default();
    found.into_iter().for_each(|(_, name, size_bytes)| index.insert(name, size_bytes));
    Ok(index)
}

/// What the name of a file in the folder says.
enum Kind {
    /// A packed adapter that this version can read, for this base or another.
    Current,
    /// Unfinished, or of another version.
    Stale,
    /// Not ours.
    Foreign,
}

fn kind_of(name: &str) -> Kind {
    if name.starts_with(UNFINISHED) {
        return Kind::Stale;
    }
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let Some((digest, rest)) = name.split_at_checked(64).filter(|(digest, _)| is_hex(digest)) else {
        return Kind::Foreign;
    };
    if rest.strip_prefix(&version_suffix()).is_some_and(|base| base.len() == 12 && is_hex(base)) {
        Kind::Current
    } else if rest.starts_with("-v") && !digest.is_empty() {
        Kind::Stale
    } else {
        Kind::Foreign
    }
}

fn version_suffix() -> String {
    format!("-v{}.{}-", format::VERSION, LoraPair::LAYOUT)
}

/// Reads a file that should have so many bytes, and not many more should it have grown.
fn read_file(path: &Path, size_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(size_bytes).unwrap_or(0).saturating_add(1));
    fs::File::open(path)?.take(size_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes beside and renames. Not synced: what a crash leaves half written has the wrong checksum.
fn write_file(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let unfinished = folder.join(format!("{UNFINISHED}{name}-{}", std::process::id()));
    let written = fs::File::create(&unfinished)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&unfinished, folder.join(name)));
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written
}

#[cfg(test)]
mod tests;
