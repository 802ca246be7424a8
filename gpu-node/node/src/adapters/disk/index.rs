//! What is known of the folder: names, lengths, and the order in which files were last used. No file is opened for it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Instant, SystemTime};

use souk_kernels::cpu::LoraPair;
use souk_protocol::Digest;

use super::format;
use super::stats::DiskStats;

/// How the names of unfinished files begin.
pub(super) const UNFINISHED: &str = ".unfinished-";

/// Bytes of the base's digest that a name has.
const BASE_BYTES: usize = 6;

/// Names a file of the tier. Thousands of these are kept, so it owns nothing beside itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FileKey {
    digest: Digest,
    /// The start of the base's digest: several bases may share the folder.
    base: [u8; BASE_BYTES],
}

impl FileKey {
    pub(super) fn new(digest: &Digest, base: &Digest) -> Self {
        let base = base.as_bytes().first_chunk().copied().expect("a digest has 32 bytes");
        Self { digest: *digest, base }
    }

    /// The key that a name stands for, if it is one of this version.
    fn of_name(name: &str) -> Option<Self> {
        let (digest, rest) = name.split_at_checked(64)?;
        let base = rest.strip_prefix(&version_suffix())?;
        // Read as the start of a digest.
        let base: Digest = format!("sha256:{base:0<64}").parse().ok()?;
        let key = Self::new(&format!("sha256:{digest}").parse().ok()?, &base);
        (key.to_string() == name).then_some(key)
    }
}

/// The file's name.
impl fmt::Display for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.digest.hex(), version_suffix())?;
        self.base.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[derive(Clone, Copy, Debug)]
struct File {
    size_bytes: u64,
    used: u64,
}

/// The books of the tier.
#[derive(Debug, Default)]
pub(super) struct Index {
    files: HashMap<FileKey, File>,
    /// The same by use: what was used longest ago comes first.
    by_use: BTreeMap<u64, FileKey>,
    /// Counts uses.
    clock: u64,
    pub(super) stats: DiskStats,
    /// Nothing is written before this time.
    pub(super) paused_until: Option<Instant>,
    /// Files that wait to be written, or are being; a removal takes them out.
    pub(super) to_write: HashSet<FileKey>,
}

impl Index {
    /// Lists the folder, in the order in which files were last used. Unfinished files and those of other versions are
    /// removed, foreign ones left alone.
    pub(super) fn take_stock(folder: &Path) -> io::Result<Self> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let (Ok(name), Ok(metadata)) = (entry.file_name().into_string(), entry.metadata()) else { continue };
            if !metadata.is_file() {
                continue;
            }
            match kind_of(&name) {
                Kind::Current(key) => {
                    found.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), key, metadata.len()));
                }
                Kind::Stale => drop(fs::remove_file(entry.path())),
                Kind::Foreign => {}
            }
        }
        found.sort_unstable();
        let mut index = Self::default();
        found.into_iter().for_each(|(_, key, size_bytes)| index.insert(key, size_bytes));
        Ok(index)
    }

    pub(super) fn has(&self, key: &FileKey) -> bool {
        self.files.contains_key(key)
    }

    pub(super) fn insert(&mut self, key: FileKey, size_bytes: u64) {
        self.forget(&key);
        self.clock += 1;
        self.files.insert(key, File { size_bytes, used: self.clock });
        self.by_use.insert(self.clock, key);
        self.stats.bytes += size_bytes;
    }

    /// Counts a use. The size of the file, if it is there.
    pub(super) fn touch(&mut self, key: &FileKey) -> Option<u64> {
        let file = self.files.get_mut(key)?;
        self.by_use.remove(&file.used);
        self.clock += 1;
        file.used = self.clock;
        self.by_use.insert(self.clock, *key);
        Some(file.size_bytes)
    }

    /// Takes a file off the books. Its size, if it was on them.
    pub(super) fn forget(&mut self, key: &FileKey) -> Option<u64> {
        let file = self.files.remove(key)?;
        self.by_use.remove(&file.used);
        self.stats.bytes -= file.size_bytes;
        Some(file.size_bytes)
    }

    /// What was used longest ago.
    pub(super) fn oldest(&self) -> Option<FileKey> {
        self.by_use.first_key_value().map(|(_, key)| *key)
    }

    /// What was used last of one base, the last one first, at most `most` of them.
    pub(super) fn latest(&self, base: &Digest, most: usize) -> Vec<Digest> {
        let of_base = self.by_use.values().rev().filter(|key| **key == FileKey::new(&key.digest, base));
        of_base.take(most).map(|key| key.digest).collect()
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused_until.is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn stats(&self) -> DiskStats {
        DiskStats { files: self.files.len(), ..self.stats }
    }
}

/// What the name of a file in the folder says.
enum Kind {
    /// A packed adapter that this version can read, for this base or another.
    Current(FileKey),
    /// Unfinished, or of another version.
    Stale,
    /// Not ours.
    Foreign,
}

fn kind_of(name: &str) -> Kind {
    if name.starts_with(UNFINISHED) {
        return Kind::Stale;
    }
    if let Some(key) = FileKey::of_name(name) {
        return Kind::Current(key);
    }
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match name.split_at_checked(64) {
        Some((digest, rest)) if is_hex(digest) && rest.starts_with("-v") => Kind::Stale,
        _ => Kind::Foreign,
    }
}

/// What stands between the two digests of a name.
pub(super) fn version_suffix() -> String {
    format!("-v{}.{}-", format::VERSION, LoraPair::LAYOUT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Beside the table's own spare room.
    const MOST_BYTES_PER_FILE: usize = 160;

    fn key(index: u64) -> FileKey {
        FileKey::new(&Digest::of(&index.to_le_bytes()), &Digest::of(b"base"))
    }

    #[test]
    fn a_known_file_costs_its_entries_and_nothing_that_they_point_to() {
        fn owns_nothing<T: Copy>() -> usize {
            size_of::<T>()
        }
        let per_file = owns_nothing::<(FileKey, File)>() + owns_nothing::<(u64, FileKey)>();
        assert!(per_file <= MOST_BYTES_PER_FILE, "{per_file} bytes: 10,000 files would take {}", per_file * 10_000);
    }

    #[test]
    fn a_name_says_what_it_stands_for_and_nothing_else_does() {
        let name = key(1).to_string();
        assert_eq!(FileKey::of_name(&name), Some(key(1)));
        for other in [name.to_uppercase(), format!("{name}0"), name[1..].to_owned(), name.replace("-v", "-w")] {
            assert_eq!(FileKey::of_name(&other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn the_oldest_is_what_was_used_longest_ago(actions in prop::collection::vec((0u8..3, 0u64..8, 1u64..100), 0..60)) {
            let (mut index, mut model) = (Index::default(), Vec::<(u64, u64)>::new());
            for (action, file, size_bytes) in actions {
                let known = model.iter().position(|(other, _)| *other == file);
                let before = known.map(|at| model.remove(at));
                match action {
                    0 => {
                        index.insert(key(file), size_bytes);
                        model.push((file, size_bytes));
                    }
                    1 => {
                        prop_assert_eq!(index.touch(&key(file)), before.map(|(_, size_bytes)| size_bytes));
                        model.extend(before);
                    }
                    _ => prop_assert_eq!(index.forget(&key(file)), before.map(|(_, size_bytes)| size_bytes)),
                }
                prop_assert_eq!(index.oldest(), model.first().map(|(file, _)| key(*file)));
                let stats = index.stats();
                prop_assert_eq!((stats.files, stats.bytes), (model.len(), model.iter().map(|(_, size)| size).sum()));
                prop_assert_eq!(index.by_use.len(), model.len());
            }
        }
    }
}
