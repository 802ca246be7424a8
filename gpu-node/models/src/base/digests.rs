//! SHA-256 of model files, remembered: hashing 98 MB at each start would take a good part of the time to ready.
//!
//! What a digest was computed from is told by the file's path, size and time of modification, as make and rsync do. The
//! records are in the cache folder, because the model's own folder may be read-only.

use std::fs::{self, File, Metadata};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use souk_protocol::Digest;

use super::{BaseError, FetchConfig, LoadProgress, OnProgress, Stage};

/// How much is hashed or copied between two reports of progress.
pub(super) const CHUNK_BYTES: usize = 1 << 20;

/// What was hashed, and the result.
#[derive(PartialEq, Serialize, Deserialize)]
struct Record {
    path: PathBuf,
    size_bytes: u64,
    modified_unix_ns: u128,
    digest: Digest,
}

/// The digest of the file's content, from its record if the file has not changed since.
pub(super) fn digest_of(path: &Path, config: &FetchConfig, on_progress: OnProgress<'_>) -> Result<Digest, BaseError> {
    let path = &path.canonicalize().map_err(BaseError::io("find", path))?;
    let metadata = fs::metadata(path).map_err(BaseError::io("examine", path))?;
    if let Some(digest) = recall(path, &metadata, config) {
        return Ok(digest);
    }
    let mut file = File::open(path).map_err(BaseError::io("open", path))?;
    let mut progress = LoadProgress { stage: Stage::Verifying, done_bytes: 0, total_bytes: Some(metadata.len()) };
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let len = file.read(&mut chunk).map_err(BaseError::io("read", path))?;
        if len == 0 {
            break;
        }
        hasher.update(&chunk[..len]);
        progress.done_bytes += len as u64;
        on_progress(progress);
    }
    let digest = Digest::from_bytes(hasher.finalize().into());
    // Only the next start is slower without the record.
    if let Err(error) = remember(path, &metadata, digest, config) {
        tracing::warn!(path = %path.display(), %error, "the digest cannot be remembered");
    }
    Ok(digest)
}

fn recall(path: &Path, metadata: &Metadata, config: &FetchConfig) -> Option<Digest> {
    let bytes = fs::read(record_path(path, config)).ok()?;
    let record: Record = serde_json::from_slice(&bytes).ok()?;
    (record == record_of(path, metadata, record.digest)?).then_some(record.digest)
}

fn remember(path: &Path, metadata: &Metadata, digest: Digest, config: &FetchConfig) -> std::io::Result<()> {
    let Some(record) = record_of(path, metadata, digest) else { return Ok(()) };
    let record_path = record_path(path, config);
    fs::create_dir_all(record_path.parent().unwrap_or(&config.cache_dir))?;
    // Written beside and renamed, so that no reader meets half a record.
    let partial = record_path.with_extension(format!("partial-{}", std::process::id()));
    File::create(&partial)?.write_all(&serde_json::to_vec(&record)?)?;
    fs::rename(partial, record_path)
}

fn record_path(path: &Path, config: &FetchConfig) -> PathBuf {
    let name = Digest::of(path.as_os_str().as_encoded_bytes()).hex();
    config.cache_dir.join("digests").join(name + ".json")
}

/// `None` on file systems that keep no time of modification.
fn record_of(path: &Path, metadata: &Metadata, digest: Digest) -> Option<Record> {
    let modified_unix_ns = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
    Some(Record { path: path.to_owned(), size_bytes: metadata.len(), modified_unix_ns, digest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_computed_once_and_again_when_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let config = FetchConfig::new(folder.path().join("cache"));
        let path = folder.path().join("weights");
        let mut num_reports = 0;
        let digest = |num_reports: &mut u32| digest_of(&path, &config, &mut |_| *num_reports += 1).unwrap();
        fs::write(&path, "one").unwrap();
        assert_eq!(digest(&mut num_reports), Digest::of(b"one"));
        assert_eq!(digest(&mut num_reports), Digest::of(b"one"));
        assert_eq!(num_reports, 1);
        fs::write(&path, "three").unwrap();
        assert_eq!(digest(&mut num_reports), Digest::of(b"three"));
        assert_eq!(num_reports, 2);
    }
}
