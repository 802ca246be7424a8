//! Where a node in the registry's process gets adapters' files from: the folder itself, or the registry's bucket.

use std::io::{self, Read};
use std::sync::Arc;

use souk_node::adapters::{AdapterSource, BlobSource, Blobs, FolderSource};
use souk_protocol::Digest;
use souk_registry::{ObjectStore, Registry};
use tokio::runtime::Handle;
use tokio_util::io::SyncIoBridge;

/// The source for a node of this process. To be called on the runtime.
pub(crate) fn source(registry: &Registry) -> Arc<dyn AdapterSource> {
    match registry.objects_dir() {
        Some(folder) => Arc::new(FolderSource::new(folder)),
        None => Arc::new(BlobSource::over(Objects { store: registry.objects(), runtime: Handle::current() })),
    }
}

/// A registry's object store, for threads that may block.
struct Objects {
    store: Arc<dyn ObjectStore>,
    runtime: Handle,
}

impl Blobs for Objects {
    fn open(&self, digest: &Digest) -> io::Result<Option<Box<dyn Read>>> {
        match self.runtime.block_on(self.store.open(digest)) {
            Ok(bytes) => Ok(Some(Box::new(SyncIoBridge::new_with_handle(bytes, self.runtime.clone())))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
