//! A lock on a model's folder in the cache, held by the process that fills it. The system drops it when the process
//! ends, however it ends.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::{BaseError, LoadProgress, OnProgress, Stage};

/// Held until it is dropped.
pub(super) struct FolderLock {
    folder: PathBuf,
    _file: File,
}

impl FolderLock {
    /// Makes the folder and waits until no other process fills it.
    pub(super) fn acquire(folder: &Path, on_progress: OnProgress<'_>) -> Result<Self, BaseError> {
        fs::create_dir_all(folder).map_err(BaseError::io("create", folder))?;
        let path = folder.join(".lock");
        let file = File::create(&path).map_err(BaseError::io("create", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                on_progress(LoadProgress { stage: Stage::Waiting, done_bytes: 0, total_bytes: None });
                file.lock().map_err(BaseError::io("lock", &path))?;
            }
            Err(TryLockError::Error(error)) => return Err(BaseError::io("lock", &path)(error)),
        }
        Ok(Self { folder: folder.to_owned(), _file: file })
    }

    /// A new folder for files on their way, removed when the result is dropped. Removes what interrupted pulls have
    /// left: holding the lock means that nobody works there.
    pub(super) fn work_folder(&self) -> Result<WorkFolder, BaseError> {
        let folder = self.folder.join(".partial");
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(BaseError::io("remove", &folder)(error));
            }
            _ => {}
        }
        fs::create_dir(&folder).map_err(BaseError::io("create", &folder))?;
        Ok(WorkFolder(folder))
    }
}

/// A folder that is removed on drop.
pub(super) struct WorkFolder(PathBuf);

impl WorkFolder {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        // Whatever stays behind is removed by the next pull.
        let _ = fs::remove_dir_all(&self.0);
    }
}
