//! Where a node gets the files of an adapter from, by digest.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use souk_protocol::manifest::{CONFIG_FILE, MAX_MANIFEST_BYTES, WEIGHTS_FILE, blob_path};
use souk_protocol::{AdapterManifest, Digest, Fetchable, FileEntry, FileGrant, peft};

use crate::background;

/// The generation of manifests that this node reads.
const MANIFEST_SCHEMA: u32 = 1;

/// Hands out the files of a version. They are checked against the digest before they are handed out, so that what is
/// cached under a digest is what the digest says.
#[async_trait]
pub trait AdapterSource: Send + Sync {
    /// The files of the version whose manifest has this digest, fetched with its grant. Weights of more than
    /// `max_weights_bytes` are refused before they are read.
    async fn fetch(&self, wanted: &Fetchable, max_weights_bytes: u64) -> Result<AdapterFiles, SourceError>;

    /// Whether files are had with the grant that came in a job for them, and not without.
    fn asks_for_grants(&self) -> bool {
        false
    }
}

/// The files of one version, as they were published.
#[derive(Clone, Debug)]
pub struct AdapterFiles {
    /// What the digest stands for.
    pub manifest: AdapterManifest,
    /// `adapter_config.json`.
    pub config: Vec<u8>,
    /// `adapter_model.safetensors`.
    pub weights: Vec<u8>,
}

/// Why the files of a version cannot be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no such version, or not any more.
    #[error("there is no adapter {0}")]
    NotFound(Digest),
    /// What is stored is not what was published.
    #[error("{file} of the adapter is damaged: expected {expected}, found {found}")]
    Corrupt {
        /// Which file.
        file: &'static str,
        /// Digest or length by the manifest.
        expected: String,
        /// Digest or length of what is there.
        found: String,
    },
    /// The manifest is intact and this node cannot read it.
    #[error("the adapter's manifest cannot be read: {0}")]
    Manifest(String),
    /// The weights are larger than the caller has room for.
    #[error("the adapter's weights have {given_bytes} bytes, this node can take {limit_bytes}")]
    TooLarge {
        /// The caller's limit.
        limit_bytes: u64,
        /// Length by the manifest.
        given_bytes: u64,
    },
    /// This node has no grant for the files, or one that is good no more.
    #[error("this node may not fetch the adapter's files: {0}")]
    NotGranted(String),
    /// The store behind cannot answer now.
    #[error("the adapter's files cannot be read: {0}")]
    Unavailable(Arc<io::Error>),
}

/// Immutable blobs by digest, as a registry stores them.
pub trait Blobs: Send + Sync + 'static {
    /// Opens a blob of the version that the grant is for; `None`: there is none. Called, and read from, on a thread that
    /// may block.
    ///
    /// # Errors
    /// `PermissionDenied` if the grant does not open it; any other if the store cannot answer.
    fn open(&self, digest: &Digest, grant: Option<&FileGrant>) -> io::Result<Option<Box<dyn Read>>>;

    /// See [`AdapterSource::asks_for_grants`].
    fn asks_for_grants(&self) -> bool {
        false
    }
}

/// Reads versions whose manifest, configuration and weights are blobs.
#[derive(Debug)]
pub struct BlobSource<B> {
    blobs: Arc<B>,
}

/// Reads from the folder that the registry of the same machine writes.
pub type FolderSource = BlobSource<BlobFolder>;

/// A folder whose blobs are at [`blob_path`] below it.
#[derive(Debug)]
pub struct BlobFolder {
    root: PathBuf,
}

impl<B: Blobs> BlobSource<B> {
    /// A source over these blobs.
    #[must_use]
    pub fn over(blobs: B) -> Self {
        Self { blobs: Arc::new(blobs) }
    }
}

impl FolderSource {
    /// A source over the folder whose blobs are at `root` / [`blob_path`].
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self::over(BlobFolder { root: root.into() })
    }
}

impl Blobs for BlobFolder {
    fn open(&self, digest: &Digest, _grant: Option<&FileGrant>) -> io::Result<Option<Box<dyn Read>>> {
        match std::fs::File::open(self.root.join(blob_path(digest))) {
            Ok(file) => Ok(Some(Box::new(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl<B: Blobs> AdapterSource for BlobSource<B> {
    async fn fetch(&self, wanted: &Fetchable, max_weights_bytes: u64) -> Result<AdapterFiles, SourceError> {
        let (blobs, wanted) = (self.blobs.clone(), wanted.clone());
        // Reading and hashing a few megabytes blocks; the engine's threads must not wait for it.
        background::run(move || read_version(&*blobs, &wanted, max_weights_bytes))
            .await
            .map_err(|error| SourceError::Unavailable(Arc::new(error)))?
    }

    fn asks_for_grants(&self) -> bool {
        self.blobs.asks_for_grants()
    }
}

/// Blobs, and what those of one version are opened with.
#[derive(Clone, Copy)]
struct Granted<'a> {
    blobs: &'a dyn Blobs,
    grant: Option<&'a FileGrant>,
}

fn read_version(blobs: &dyn Blobs, wanted: &Fetchable, max_weights_bytes: u64) -> Result<AdapterFiles, SourceError> {
    let Fetchable { digest, grant } = wanted;
    let blobs = Granted { blobs, grant: grant.as_ref() };
    let bytes = read_blob(blobs, digest, "the manifest", MAX_MANIFEST_BYTES)?;
    let bytes = bytes.ok_or(SourceError::NotFound(*digest))?;
    let manifest: AdapterManifest =
        serde_json::from_slice(&bytes).map_err(|error| SourceError::Manifest(error.to_string()))?;
    if manifest.schema != MANIFEST_SCHEMA {
        let reason = format!("expected schema {MANIFEST_SCHEMA}, given {}", manifest.schema);
        return Err(SourceError::Manifest(reason));
    }
    let given_bytes = manifest.weights.size_bytes;
    if given_bytes > max_weights_bytes {
        return Err(SourceError::TooLarge { limit_bytes: max_weights_bytes, given_bytes });
    }
    if manifest.config.size_bytes > peft::MAX_CONFIG_BYTES as u64 {
        let (given, limit) = (manifest.config.size_bytes, peft::MAX_CONFIG_BYTES);
        let reason = format!("{CONFIG_FILE} has {given} bytes, at most {limit} are allowed");
        return Err(SourceError::Manifest(reason));
    }
    let config = read_file(blobs, &manifest.config, CONFIG_FILE)?;
    let weights = read_file(blobs, &manifest.weights, WEIGHTS_FILE)?;
    Ok(AdapterFiles { manifest, config, weights })
}

/// Reads a file of the version and compares length and digest with the manifest.
fn read_file(blobs: Granted<'_>, entry: &FileEntry, file: &'static str) -> Result<Vec<u8>, SourceError> {
    let missing = || SourceError::Corrupt { file, expected: entry.digest.to_string(), found: "no file".to_owned() };
    let bytes = read_blob(blobs, &entry.digest, file, entry.size_bytes)?.ok_or_else(missing)?;
    if bytes.len() as u64 != entry.size_bytes {
        let expected = format!("{} bytes", entry.size_bytes);
        return Err(SourceError::Corrupt { file, expected, found: format!("{} bytes", bytes.len()) });
    }
    Ok(bytes)
}

/// Reads a blob of at most `max_bytes` and checks its digest. `None`: there is none.
fn read_blob(
    blobs: Granted<'_>,
    digest: &Digest,
    file: &'static str,
    max_bytes: u64,
) -> Result<Option<Vec<u8>>, SourceError> {
    let unavailable = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => SourceError::NotGranted(error.to_string()),
        _ => SourceError::Unavailable(Arc::new(error)),
    };
    let Some(open) = blobs.blobs.open(digest, blobs.grant).map_err(unavailable)? else { return Ok(None) };
    let mut bytes = Vec::with_capacity(usize::try_from(max_bytes).unwrap_or_default());
    // One more than that shows that it is longer; no more of it is read.
    open.take(max_bytes + 1).read_to_end(&mut bytes).map_err(unavailable)?;
    if bytes.len() as u64 > max_bytes {
        let expected = format!("at most {max_bytes} bytes");
        return Err(SourceError::Corrupt { file, expected, found: "more".to_owned() });
    }
    let found = Digest::of(&bytes);
    if found != *digest {
        return Err(SourceError::Corrupt { file, expected: digest.to_string(), found: found.to_string() });
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests;
