//! Where the bytes of adapters live: immutable blobs, each named by its own SHA-256.
//!
//! A blob is staged first, out of sight, and appears under its digest in one step when it is complete. Who writes the
//! same content twice finds it already there. Several registries may use one store at a time.
//!
//! One suite holds for every store (`tests/api/objects/suite.rs`).

mod settings;

mod folder;
mod s3;

mod open;

use std::io;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};
use souk_protocol::Digest;
use tokio::io::{AsyncRead, AsyncReadExt as _};

pub use folder::FolderStore;
pub use open::OpenObjectsError;
pub(crate) use open::open;
pub use s3::{S3Failure, S3Store, Trouble};
pub(crate) use settings::MAX_PARTS;
pub use settings::{Addressing, ObjectSettings, Place};

/// The bytes of a blob, in order.
pub type BlobReader = Pin<Box<dyn AsyncRead + Send>>;

/// A content-addressed store of blobs.
#[async_trait]
pub trait ObjectStore: Send + Sync + 'static {
    /// Begins a blob of an upload that nobody sees until it is committed.
    async fn stage(&self, upload: &str) -> io::Result<Box<dyn StagedBlob>>;

    /// The uploads that have something staged, each once.
    async fn staged(&self) -> io::Result<Vec<String>>;

    /// Discards what an upload has staged; answers how much. Only for an upload that was ended.
    async fn discard(&self, upload: &str) -> io::Result<usize>;

    /// Opens a blob to read it from its start. `NotFound` if there is none.
    async fn open(&self, digest: &Digest) -> io::Result<BlobReader>;

    /// Where a blob can be read by GET, by whoever has the address, for as long as `good_for`; `None`: only through the
    /// registry. Whether there is such a blob is not looked at.
    async fn address(&self, _digest: &Digest, _good_for: Duration) -> io::Result<Option<String>> {
        Ok(None)
    }

    /// Removes a blob; no error if there is none.
    async fn remove(&self, digest: &Digest) -> io::Result<()>;

    /// Takes a damaged blob away from under its digest and keeps its bytes aside, where only an operator finds them;
    /// answers whether there was one.
    async fn quarantine(&self, digest: &Digest) -> io::Result<bool>;

    /// All blobs whose digest begins with the byte `shard`, in no order.
    async fn list(&self, shard: u8) -> io::Result<Vec<StoredBlob>>;

    /// Whether there is any blob.
    async fn has_blobs(&self) -> io::Result<bool> {
        for shard in 0..=u8::MAX {
            if !self.list(shard).await?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How clients send parts to the store themselves, if they can.
    fn direct(&self) -> Option<&dyn DirectUploads> {
        None
    }

    /// Bytes that are free where the blobs are; `None` where there is no such bound.
    async fn free_bytes(&self) -> io::Result<Option<u64>>;

    /// The id of the installation whose objects these are, if one was written.
    async fn installation(&self) -> io::Result<Option<String>>;

    /// Writes the id of the installation whose objects these are. `AlreadyExists` if another one's is there: it is
    /// never replaced.
    async fn set_installation(&self, id: &str) -> io::Result<()>;
}

/// A blob in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlob {
    /// Its name.
    pub digest: Digest,
    /// Its length.
    pub size_bytes: u64,
    /// How long it has been there, by the store's own account.
    pub age: Duration,
}

/// A blob that is being written. Dropping it discards it.
#[async_trait]
pub trait StagedBlob: Send {
    /// Appends to the blob.
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the blob durable and visible under `digest`, which the caller computed over exactly the written bytes.
    async fn commit(self: Box<Self>, digest: &Digest) -> io::Result<()>;
}

/// A store to which clients can send parts themselves. An upload is known by its id, and is what it has staged: it is
/// found among [`ObjectStore::staged`], and [`ObjectStore::discard`] ends it.
#[async_trait]
pub trait DirectUploads: Send + Sync {
    /// Bytes of every part but the last.
    fn part_bytes(&self) -> u64;

    /// Begins the upload; answers what the store calls it.
    async fn begin(&self, upload: &str) -> io::Result<String>;

    /// Where each of these parts is to be sent, for as long as `good_for`, which is at most a week. Only a body of that
    /// length and SHA-256 is taken there. A part that is sent again replaces what was sent before. The store is asked
    /// nothing where its id of the upload is known: whether the upload still takes parts is the caller's to know.
    async fn addresses(&self, of: Begun<'_>, parts: &[DirectPart], good_for: Duration) -> io::Result<Vec<PartAddress>>;

    /// What has arrived, in the order of the parts; `None`: it was completed, and is one object.
    async fn parts(&self, of: Begun<'_>) -> io::Result<Option<Vec<DirectPart>>>;

    /// Ends the sending: what has arrived is one object now, of as many bytes as are answered. Again for an upload
    /// that was completed, it answers the same.
    async fn complete(&self, of: Begun<'_>) -> io::Result<u64>;

    /// Opens what was completed, to be looked at.
    async fn open(&self, upload: &str) -> io::Result<BlobReader>;

    /// What was completed, as a blob to be committed under the digest that its bytes were found to have. What the upload
    /// has staged stays until it is discarded, so that who fails after the commit can do it again.
    fn completed(&self, upload: &str, size_bytes: u64) -> Box<dyn StagedBlob>;
}

/// An upload that was begun.
#[derive(Clone, Copy, Debug)]
pub struct Begun<'a> {
    /// Its id.
    pub upload: &'a str,
    /// What [`DirectUploads::begin`] answered. Where that is not known, the store is asked.
    pub store_id: Option<&'a str>,
}

/// A part of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectPart {
    /// From 1.
    pub number: u64,
    /// Its length.
    pub size_bytes: u64,
    /// Its checksum.
    pub sha256: [u8; 32],
}

/// Where a part is to be sent, by PUT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartAddress {
    /// The part's number.
    pub number: u64,
    /// The whole address, signed. Whoever has it can send the part.
    pub url: String,
    /// Headers that the request must have, by name.
    pub headers: Vec<(String, String)>,
}

/// SHA-256 of all that a blob has.
pub(crate) async fn digest_of(mut bytes: BlobReader) -> io::Result<Digest> {
    // Hashing so much takes a fraction of a millisecond.
    let mut buffer = vec![0; 128 * 1024];
    let mut sha256 = Sha256::new();
    loop {
        match bytes.read(&mut buffer).await? {
            0 => return Ok(Digest::from_bytes(sha256.finalize().into())),
            len => sha256.update(&buffer[..len]),
        }
    }
}

/// Whether `error` says that there is no room left.
pub(crate) fn is_storage_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether `error` says that the store cannot be reached, or not be used now, whatever is asked of it.
pub(crate) fn is_unavailable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NotConnected
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ResourceBusy
            | io::ErrorKind::TimedOut
            | io::ErrorKind::StaleNetworkFileHandle
            | io::ErrorKind::ReadOnlyFilesystem
    )
}

/// Says that the id of another installation is there already.
fn another_installation(given: &str, found: &str) -> io::Error {
    let text = format!("the object store is of installation {found}, not {given}");
    io::Error::new(io::ErrorKind::AlreadyExists, text)
}
