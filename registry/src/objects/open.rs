//! Which store the settings mean.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::{FolderStore, ObjectSettings, ObjectStore, Place, S3Failure, S3Store};

/// Why the object store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenObjectsError {
    /// The settings mean no store.
    #[error("{0}")]
    Settings(String),
    /// The folder cannot be used.
    #[error("the folder of objects {path} cannot be used")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the file system says.
        #[source]
        source: io::Error,
    },
    /// The bucket cannot be used.
    #[error(transparent)]
    S3(#[from] S3Failure),
}

/// Opens the store of the settings; `folder` is where objects are if not in a bucket.
///
/// # Errors
/// [`OpenObjectsError`]. What was written to try it is gone again.
pub(crate) async fn open(settings: &ObjectSettings, folder: PathBuf) -> Result<Arc<dyn ObjectStore>, OpenObjectsError> {
    match settings.place().map_err(OpenObjectsError::Settings)? {
        Place::Folder => {
            let store = FolderStore::open(&folder).await;
            Ok(Arc::new(store.map_err(|source| OpenObjectsError::Folder { path: folder, source })?))
        }
        Place::Bucket { .. } => Ok(Arc::new(S3Store::open(settings).await?)),
    }
}
