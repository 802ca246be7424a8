//! Where the bytes of adapters live: immutable blobs, each named by its own SHA-256.
//!
//! A blob is staged first, out of sight, and appears under its digest in one step when it is complete. Who writes the
//! same content twice finds it already there. Several registries may use one store at a time.

mod folder;

use std::io;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use souk_protocol::Digest;
use tokio::io::AsyncRead;

pub use folder::FolderStore;

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

    /// Removes a blob; no error if there is none.
    async fn remove(&self, digest: &Digest) -> io::Result<()>;

    /// All blobs whose digest begins with the byte `shard`, in no order.
    async fn list(&self, shard: u8) -> io::Result<Vec<StoredBlob>>;

    /// Bytes that are free where the blobs are; `None` where there is no such bound.
    async fn free_bytes(&self) -> io::Result<Option<u64>>;

    /// The id of the installation whose objects these are, if one was written.
    async fn installation(&self) -> io::Result<Option<String>>;

    /// Writes the id of the installation whose objects these are.
    async fn set_installation(&self, id: &str) -> io::Result<()>;
}

/// A blob in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlob {
    /// Its name.
    pub digest: Digest,
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

/// Whether there is any blob.
pub(crate) async fn has_blobs(store: &dyn ObjectStore) -> io::Result<bool> {
    for shard in 0..=u8::MAX {
        if !store.list(shard).await?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether `error` says that there is no room left.
pub(crate) fn is_storage_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
