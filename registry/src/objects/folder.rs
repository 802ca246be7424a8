//! Blobs as files: `sha256/ab/abcdef…` beside `staging/`, on one file system so that a rename is atomic.

use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use souk_protocol::Digest;
use souk_protocol::manifest::blob_path;
use tokio::fs;
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use super::{BlobReader, ObjectStore, StagedBlob};

/// Bytes gathered before a write reaches the file system: network chunks are often a few KiB.
const WRITE_BUFFER_BYTES: usize = 256 * 1024;

/// An object store in a folder of the local file system.
#[derive(Clone, Debug)]
pub struct FolderStore {
    root: PathBuf,
}

impl FolderStore {
    /// Opens the store below `root`, making its folders if they are absent.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let store = Self { root: root.into() };
        fs::create_dir_all(store.staging()).await?;
        fs::create_dir_all(store.root.join("sha256")).await?;
        Ok(store)
    }

    fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }
}

#[async_trait]
impl ObjectStore for FolderStore {
    async fn stage(&self) -> io::Result<Box<dyn StagedBlob>> {
        let path = self.staging().join(Uuid::new_v4().simple().to_string());
        let file = fs::OpenOptions::new().write(true).create_new(true).open(&path).await?;
        Ok(Box::new(StagedFile {
            file: tokio::io::BufWriter::with_capacity(WRITE_BUFFER_BYTES, file),
            staged: DiscardOnDrop(path),
            root: self.root.clone(),
        }))
    }

    async fn open(&self, digest: &Digest) -> io::Result<BlobReader> {
        Ok(Box::pin(fs::File::open(self.root.join(blob_path(digest))).await?))
    }

    async fn remove(&self, digest: &Digest) -> io::Result<()> {
        match fs::remove_file(self.root.join(blob_path(digest))).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    async fn list(&self) -> io::Result<Vec<Digest>> {
        let mut digests = Vec::new();
        let mut shards = fs::read_dir(self.root.join("sha256")).await?;
        while let Some(shard) = shards.next_entry().await? {
            if !shard.file_type().await?.is_dir() {
                continue;
            }
            let mut blobs = fs::read_dir(shard.path()).await?;
            while let Some(blob) = blobs.next_entry().await? {
                // A file that is not named like a blob is not ours to judge.
                let name = blob.file_name();
                digests.extend(name.to_str().and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok()));
            }
        }
        Ok(digests)
    }

    async fn discard_abandoned(&self) -> io::Result<usize> {
        let mut num_discarded = 0;
        let mut entries = fs::read_dir(self.staging()).await?;
        while let Some(entry) = entries.next_entry().await? {
            fs::remove_file(entry.path()).await?;
            num_discarded += 1;
        }
        Ok(num_discarded)
    }
}

struct StagedFile {
    file: tokio::io::BufWriter<fs::File>,
    staged: DiscardOnDrop,
    root: PathBuf,
}

#[async_trait]
impl StagedBlob for StagedFile {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).await
    }

    async fn commit(mut self: Box<Self>, digest: &Digest) -> io::Result<()> {
        self.file.flush().await?;
        self.file.get_ref().sync_all().await?;
        let target = self.root.join(blob_path(digest));
        let shard = target.parent().expect("a blob path has a shard folder").to_owned();
        fs::create_dir_all(&shard).await?;
        // Renaming over an equal blob is harmless: the content is the same and readers keep the file they opened.
        fs::rename(&self.staged.0, &target).await?;
        // The rename is durable only when both folders on its way are.
        sync_folder(&shard).await?;
        sync_folder(&self.root.join("sha256")).await
    }
}

async fn sync_folder(path: &Path) -> io::Result<()> {
    fs::File::open(path).await?.sync_all().await
}

/// Removes a staged file unless it was renamed away.
struct DiscardOnDrop(PathBuf);

impl Drop for DiscardOnDrop {
    fn drop(&mut self) {
        match std::fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.0.display(), %error, "A staged file could not be removed; the next start removes it");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    async fn put(store: &FolderStore, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let mut blob = store.stage().await.unwrap();
        blob.write(bytes).await.unwrap();
        blob.commit(&digest).await.unwrap();
        digest
    }

    #[tokio::test]
    async fn a_committed_blob_reads_back_and_the_same_content_is_stored_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStore::open(folder.path()).await.unwrap();
        let digest = put(&store, b"weights").await;
        assert_eq!(put(&store, b"weights").await, digest);
        let mut text = String::new();
        store.open(&digest).await.unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "weights");
        assert_eq!(store.list().await.unwrap(), [digest]);
        store.remove(&digest).await.unwrap();
        store.remove(&digest).await.unwrap();
        assert_eq!(store.open(&digest).await.err().unwrap().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_dropped_blob_leaves_nothing_and_an_abandoned_one_is_discarded() {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStore::open(folder.path()).await.unwrap();
        let mut blob = store.stage().await.unwrap();
        blob.write(b"half").await.unwrap();
        drop(blob);
        assert_eq!(store.discard_abandoned().await.unwrap(), 0);
        std::fs::write(folder.path().join("staging/left-by-a-killed-process"), b"half").unwrap();
        assert_eq!(store.discard_abandoned().await.unwrap(), 1);
        assert!(store.list().await.unwrap().is_empty());
    }
}
