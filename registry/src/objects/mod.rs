//! Where the bytes of adapters live: immutable blobs, each named by its own SHA-256.
//!
//! A blob is staged first, out of sight, and appears under its digest in one step when it is complete. Who writes the
//! same content twice finds it already there.

mod folder;

use std::io;
use std::pin::Pin;

use async_trait::async_trait;
use souk_protocol::Digest;
use tokio::io::AsyncRead;

pub use folder::FolderStore;

/// The bytes of a blob, in order.
pub type BlobReader = Pin<Box<dyn AsyncRead + Send>>;

/// A content-addressed store of blobs.
#[async_trait]
pub trait ObjectStore: Send + Sync + 'static {
    /// Begins a blob that nobody sees until it is committed.
    async fn stage(&self) -> io::Result<Box<dyn StagedBlob>>;

    /// Opens a blob to read it from its start. `NotFound` if there is none.
    async fn open(&self, digest: &Digest) -> io::Result<BlobReader>;

    /// Removes a blob; no error if there is none.
    async fn remove(&self, digest: &Digest) -> io::Result<()>;

    /// All blobs, in no order.
    async fn list(&self) -> io::Result<Vec<Digest>>;

    /// Removes what earlier processes staged and never committed; answers how many. Only for a process that is alone
    /// with the store and has nothing staged itself.
    async fn discard_abandoned(&self) -> io::Result<usize>;
}

/// A blob that is being written. Dropping it discards it.
#[async_trait]
pub trait StagedBlob: Send {
    /// Appends to the blob.
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the blob durable and visible under `digest`, which the caller computed over exactly the written bytes.
    async fn commit(self: Box<Self>, digest: &Digest) -> io::Result<()>;
}

/// Whether `error` says that there is no room left.
pub(crate) fn is_storage_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
