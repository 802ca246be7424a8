//! The lock of the data folder, held while a registry starts and never longer.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

/// A start takes far less, also with migrations; a process that holds the lock for longer is stuck.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How often the lock is tried.
const PAUSE: Duration = Duration::from_millis(20);

/// The lock. Dropping it, or the end of the process, gives it back.
pub(crate) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Waits for the lock; `None` if another process kept it for too long.
    pub(crate) async fn take(folder: &Path) -> io::Result<Option<Self>> {
        let file = File::create(folder.join("lock"))?;
        let until = Instant::now() + LONGEST_WAIT;
        while Instant::now() < until {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self { _file: file })),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(PAUSE).await,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(None)
    }
}
