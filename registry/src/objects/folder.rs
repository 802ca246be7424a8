//! Blobs as files: `sha256/ab/abcdef…` beside `staging/<upload>.<random>`, on one file system so that a rename is
//! atomic, and `installation`, a file with the id of whose objects these are.

use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use souk_protocol::Digest;
use souk_protocol::manifest::blob_path;
use tokio::fs;
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use super::{BlobReader, ObjectStore, StagedBlob, StoredBlob, another_installation};
use crate::private;

/// Bytes gathered before a write reaches the file system: network chunks are often a few KiB.
const WRITE_BUFFER_BYTES: usize = 256 * 1024;

/// The file with the id of the installation.
const INSTALLATION_FILE: &str = "installation";

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

    /// What `error` says, unless nothing is found because the whole store is not there.
    async fn unless_away(&self, error: io::Error) -> io::Error {
        let is_away = error.kind() == io::ErrorKind::NotFound && fs::metadata(self.root.join("sha256")).await.is_err();
        if !is_away {
            return error;
        }
        let text = format!("the folder of objects {} is not there; is its disk mounted?", self.root.display());
        io::Error::new(io::ErrorKind::NotConnected, text)
    }
}

#[async_trait]
impl ObjectStore for FolderStore {
    async fn stage(&self, upload: &str) -> io::Result<Box<dyn StagedBlob>> {
        let path = self.staging().join(format!("{upload}.{}", Uuid::new_v4().simple()));
        let file = match fs::OpenOptions::new().write(true).create_new(true).open(&path).await {
            Ok(file) => file,
            Err(error) => return Err(self.unless_away(error).await),
        };
        Ok(Box::new(StagedFile {
            file: tokio::io::BufWriter::with_capacity(WRITE_BUFFER_BYTES, file),
            staged: DiscardOnDrop(path),
            root: self.root.clone(),
        }))
    }

    async fn open(&self, digest: &Digest) -> io::Result<BlobReader> {
        match fs::File::open(self.root.join(blob_path(digest))).await {
            Ok(file) => Ok(Box::pin(file)),
            Err(error) => Err(self.unless_away(error).await),
        }
    }

    async fn remove(&self, digest: &Digest) -> io::Result<()> {
        match fs::remove_file(self.root.join(blob_path(digest))).await {
            Ok(()) => Ok(()),
            // Nothing to be removed, unless nothing at all is there now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => match self.unless_away(error).await {
                error if error.kind() == io::ErrorKind::NotFound => Ok(()),
                error => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    async fn staged(&self) -> io::Result<Vec<String>> {
        let mut uploads = Vec::new();
        let mut entries = fs::read_dir(self.staging()).await?;
        while let Some(entry) = entries.next_entry().await? {
            uploads.extend(upload_of(&entry.file_name()).map(str::to_owned));
        }
        uploads.sort_unstable();
        uploads.dedup();
        Ok(uploads)
    }

    async fn discard(&self, upload: &str) -> io::Result<usize> {
        let mut num_discarded = 0;
        let mut entries = fs::read_dir(self.staging()).await?;
        while let Some(entry) = entries.next_entry().await? {
            if upload_of(&entry.file_name()) == Some(upload) {
                num_discarded += usize::from(remove_if_there(&entry.path()).await?);
            }
        }
        Ok(num_discarded)
    }

    async fn quarantine(&self, digest: &Digest) -> io::Result<bool> {
        let aside = self.root.join("quarantine");
        fs::create_dir_all(&aside).await?;
        let name = digest.to_string().replace(':', "-");
        match fs::rename(self.root.join(blob_path(digest)), aside.join(format!("{name}.{}", Uuid::new_v4().simple())))
            .await
        {
            Ok(()) => sync_folder(&aside).await.map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn list(&self, shard: u8) -> io::Result<Vec<StoredBlob>> {
        let mut found = Vec::new();
        let mut blobs = match fs::read_dir(self.root.join("sha256").join(format!("{shard:02x}"))).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match self.unless_away(error).await {
                error if error.kind() == io::ErrorKind::NotFound => return Ok(found),
                error => return Err(error),
            },
            blobs => blobs?,
        };
        while let Some(blob) = blobs.next_entry().await? {
            // A file that is not named like a blob is not ours to judge, and one that is gone is nobody's.
            let name = blob.file_name();
            let digest = name.to_str().and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
            let (Some(digest), Ok(metadata)) = (digest, blob.metadata().await) else { continue };
            // A moment in the future, after a step of the clock, is no age at all.
            let age = metadata.modified()?.elapsed().unwrap_or_default();
            found.push(StoredBlob { digest, size_bytes: metadata.len(), age });
        }
        Ok(found)
    }

    async fn free_bytes(&self) -> io::Result<Option<u64>> {
        private::free_bytes(self.root.clone()).await.map(Some)
    }

    async fn installation(&self) -> io::Result<Option<String>> {
        match fs::read_to_string(self.root.join(INSTALLATION_FILE)).await {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn set_installation(&self, id: &str) -> io::Result<()> {
        // Who starts has the data folder's lock, so nobody writes another id between this look and the rename.
        if let Some(found) = self.installation().await? {
            return if found == id { Ok(()) } else { Err(another_installation(id, &found)) };
        }
        // Under another name first: a crash leaves no half id behind.
        let partial = self.root.join(format!("{INSTALLATION_FILE}.{}", Uuid::new_v4().simple()));
        let mut file = fs::File::create(&partial).await?;
        file.write_all(format!("{id}\n").as_bytes()).await?;
        file.sync_all().await?;
        fs::rename(&partial, self.root.join(INSTALLATION_FILE)).await?;
        sync_folder(&self.root).await
    }
}

/// The upload that a staged file belongs to, by its name.
fn upload_of(file_name: &std::ffi::OsStr) -> Option<&str> {
    file_name.to_str()?.split('.').next()
}

/// Answers whether there was a file.
async fn remove_if_there(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
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
                tracing::warn!(path = %self.0.display(), %error, "A staged file could not be removed; the collector tries again");
            }
            _ => {}
        }
    }
}
