//! Figures about the disk tier.

/// Counts since the start, and what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Bytes of all files.
    pub bytes: u64,
    /// Packed adapters on disk, one file each.
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
