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
///
/// Its folders are made when it is opened and never after: under the mount point of a disk that went away they would be
/// made anew, empty, and what is on the disk would count as gone.
#[derive(Clone, Debug)]
pub struct FolderStore {
    root: Root,
}

/// The folder of a store.
#[derive(Clone, Debug)]
struct Root(PathBuf);

impl FolderStore {
    /// Opens the store below `root`, making its folders if they are absent.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = Root(root.into());
        fs::create_dir_all(root.staging()).await?;
        fs::create_dir_all(root.blobs()).await?;
        Ok(Self { root })
    }
}

impl Root {
    fn staging(&self) -> PathBuf {
        self.0.join("staging")
    }

    fn blobs(&self) -> PathBuf {
        self.0.join("sha256")
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.0.join(blob_path(digest))
    }

    /// What `work` answers, unless it finds nothing because the whole store is not there. Each use of the file system
    /// after [`FolderStore::open`] goes through here.
    async fn unless_away<T>(&self, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        match work.await {
            Err(error) if error.kind() == io::ErrorKind::NotFound && fs::metadata(self.blobs()).await.is_err() => {
                let text = format!("the folder of objects {} is not there; is its disk mounted?", self.0.display());
                Err(io::Error::new(io::ErrorKind::NotConnected, text))
            }
            answer => answer,
        }
    }

    /// The same; `None` where the store is there and what `work` looked for is not.
    async fn if_there<T>(&self, work: impl Future<Output = io::Result<T>>) -> io::Result<Option<T>> {
        match self.unless_away(work).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a folder right below one that is there, unless it is there itself.
    async fn make_folder(&self, path: &Path) -> io::Result<()> {
        match self.unless_away(fs::create_dir(path)).await {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }
}

#[async_trait]
impl ObjectStore for FolderStore {
    async fn stage(&self, upload: &str) -> io::Result<Box<dyn StagedBlob>> {
        let path = self.root.staging().join(format!("{upload}.{}", Uuid::new_v4().simple()));
        let file = self.root.unless_away(fs::OpenOptions::new().write(true).create_new(true).open(&path)).await?;
        Ok(Box::new(StagedFile {
            file: tokio::io::BufWriter::with_capacity(WRITE_BUFFER_BYTES, file),
            staged: DiscardOnDrop(path),
            root: self.root.clone(),
        }))
    }

    async fn open(&self, digest: &Digest) -> io::Result<BlobReader> {
        Ok(Box::pin(self.root.unless_away(fs::File::open(self.root.blob(digest))).await?))
    }

    async fn remove(&self, digest: &Digest) -> io::Result<()> {
        self.root.if_there(fs::remove_file(self.root.blob(digest))).await.map(|_| ())
    }

    async fn staged(&self) -> io::Result<Vec<String>> {
        let mut uploads = Vec::new();
        let mut entries = self.root.unless_away(fs::read_dir(self.root.staging())).await?;
        while let Some(entry) = self.root.unless_away(entries.next_entry()).await? {
            uploads.extend(upload_of(&entry.file_name()).map(str::to_owned));
        }
        uploads.sort_unstable();
        uploads.dedup();
        Ok(uploads)
    }

    async fn discard(&self, upload: &str) -> io::Result<usize> {
        let mut num_discarded = 0;
        let mut entries = self.root.unless_away(fs::read_dir(self.root.staging())).await?;
        while let Some(entry) = self.root.unless_away(entries.next_entry()).await? {
            if upload_of(&entry.file_name()) == Some(upload) {
                num_discarded += usize::from(self.root.if_there(fs::remove_file(entry.path())).await?.is_some());
            }
        }
        Ok(num_discarded)
    }

    async fn quarantine(&self, digest: &Digest) -> io::Result<bool> {
        let aside = self.root.0.join("quarantine");
        // Looked up first, so that no folder is made under a mount point without its disk.
        if self.root.if_there(fs::metadata(self.root.blob(digest))).await?.is_none() {
            return Ok(false);
        }
        self.root.make_folder(&aside).await?;
        let name = format!("{}.{}", digest.to_string().replace(':', "-"), Uuid::new_v4().simple());
        let moved = self.root.if_there(fs::rename(self.root.blob(digest), aside.join(name))).await?;
        match moved {
            Some(()) => self.root.unless_away(sync_folder(&aside)).await.map(|()| true),
            None => Ok(false),
        }
    }

    async fn list(&self, shard: u8) -> io::Result<Vec<StoredBlob>> {
        let mut found = Vec::new();
        let blobs = self.root.if_there(fs::read_dir(self.root.blobs().join(format!("{shard:02x}")))).await?;
        let Some(mut blobs) = blobs else { return Ok(found) };
        while let Some(blob) = self.root.unless_away(blobs.next_entry()).await? {
            // A file that is not named like a blob is not ours to judge, and one that is gone is nobody's.
            let name = blob.file_name();
            let digest = name.to_str().and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
            let Some(digest) = digest else { continue };
            let Some(metadata) = self.root.if_there(blob.metadata()).await? else { continue };
            // A moment in the future, after a step of the clock, is no age at all.
            let age = metadata.modified()?.elapsed().unwrap_or_default();
            found.push(StoredBlob { digest, size_bytes: metadata.len(), age });
        }
        Ok(found)
    }

    async fn free_bytes(&self) -> io::Result<Option<u64>> {
        self.root.unless_away(private::free_bytes(self.root.0.clone())).await.map(Some)
    }

    async fn installation(&self) -> io::Result<Option<String>> {
        let text = self.root.if_there(fs::read_to_string(self.root.0.join(INSTALLATION_FILE))).await?;
        Ok(text.map(|text| text.trim().to_owned()))
    }

    async fn set_installation(&self, id: &str) -> io::Result<()> {
        // Who starts has the data folder's lock, so nobody writes another id between this look and the rename.
        if let Some(found) = self.installation().await? {
            return if found == id { Ok(()) } else { Err(another_installation(id, &found)) };
        }
        // Under another name first: a crash leaves no half id behind.
        let partial = self.root.0.join(format!("{INSTALLATION_FILE}.{}", Uuid::new_v4().simple()));
        let mut file = self.root.unless_away(fs::File::create(&partial)).await?;
        file.write_all(format!("{id}\n").as_bytes()).await?;
        file.sync_all().await?;
        self.root.unless_away(fs::rename(&partial, self.root.0.join(INSTALLATION_FILE))).await?;
        self.root.unless_away(sync_folder(&self.root.0)).await
    }
}

/// The upload that a staged file belongs to, by its name.
fn upload_of(file_name: &std::ffi::OsStr) -> Option<&str> {
    file_name.to_str()?.split('.').next()
}

struct StagedFile {
    file: tokio::io::BufWriter<fs::File>,
    staged: DiscardOnDrop,
    root: Root,
}

#[async_trait]
impl StagedBlob for StagedFile {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).await
    }

    async fn commit(mut self: Box<Self>, digest: &Digest) -> io::Result<()> {
        self.file.flush().await?;
        self.file.get_ref().sync_all().await?;
        let (root, target) = (&self.root, self.root.blob(digest));
        let shard = target.parent().expect("a blob path has a shard folder").to_owned();
        root.make_folder(&shard).await?;
        // Renaming over an equal blob is harmless: the content is the same and readers keep the file they opened.
        root.unless_away(fs::rename(&self.staged.0, &target)).await?;
        // The rename is durable only when both folders on its way are.
        root.unless_away(sync_folder(&shard)).await?;
        root.unless_away(sync_folder(&root.blobs())).await
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
