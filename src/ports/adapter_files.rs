//! Where a node gets adapters' files from: in the registry's process the folder itself or the registry's bucket, elsewhere
//! from registries over HTTP.

use std::io::{self, Read};
use std::sync::Arc;

use souk_node::adapters::{AdapterSource, BlobSource, Blobs, FolderSource};
use souk_protocol::{Digest, FileGrant};
use souk_registries::Registries;
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

/// The source for a node whose registries are elsewhere. `direct`: files may be read where registries keep them. To be
/// called on the runtime.
pub(crate) fn from_registries(registries: Registries, direct: bool) -> Arc<dyn AdapterSource> {
    Arc::new(BlobSource::over(Elsewhere { registries, direct, runtime: Handle::current() }))
}

/// Registries elsewhere, for threads that may block.
struct Elsewhere {
    registries: Registries,
    direct: bool,
    runtime: Handle,
}

impl Blobs for Elsewhere {
    fn open(&self, digest: &Digest, grant: Option<&FileGrant>) -> io::Result<Option<Box<dyn Read>>> {
        let missing = || io::Error::new(io::ErrorKind::PermissionDenied, "no grant for them came in a job");
        let opened = self.registries.open(digest, grant.ok_or_else(missing)?, self.direct);
        let opened = self.runtime.block_on(opened)?;
        Ok(opened
            .map(|bytes| -> Box<dyn Read> { Box::new(SyncIoBridge::new_with_handle(bytes, self.runtime.clone())) }))
    }

    fn asks_for_grants(&self) -> bool {
        true
    }
}

/// A registry's object store, for threads that may block.
struct Objects {
    store: Arc<dyn ObjectStore>,
    runtime: Handle,
}

impl Blobs for Objects {
    fn open(&self, digest: &Digest, _grant: Option<&FileGrant>) -> io::Result<Option<Box<dyn Read>>> {
        match self.runtime.block_on(self.store.open(digest)) {
            Ok(bytes) => Ok(Some(Box::new(SyncIoBridge::new_with_handle(bytes, self.runtime.clone())))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
