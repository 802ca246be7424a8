//! Which blobs are in use, and removing those that are not.

use std::collections::HashSet;

use sea_orm::{ColumnTrait as _, EntityTrait as _, PaginatorTrait as _, QueryFilter as _, QuerySelect as _};
use souk_protocol::Digest;

use crate::Registry;
use crate::db::entities::version_file;
use crate::error::RegistryError;
use crate::registry::OpenError;

impl Registry {
    /// Removes those of `digests` that no version refers to any more. A failure is logged and leaves a blob too many,
    /// which the next start removes; what the caller did is done either way.
    pub(crate) async fn release_blobs(&self, digests: &[String]) {
        let _no_upload_relies_on_them = self.blob_references.write().await;
        for text in digests {
            if let Err(error) = self.remove_if_unreferenced(text).await {
                tracing::warn!(blob = text, %error, "An unreferenced blob stays until the next start");
            }
        }
    }

    async fn remove_if_unreferenced(&self, text: &str) -> Result<(), RegistryError> {
        let references =
            version_file::Entity::find().filter(version_file::Column::Digest.eq(text)).count(&self.db).await?;
        match text.parse::<Digest>() {
            Ok(digest) if references == 0 => Ok(self.objects.remove(&digest).await?),
            _ => Ok(()),
        }
    }

    /// Removes every blob that no version refers to; answers how many. Reads the whole store, so only at start.
    pub(crate) async fn sweep_blobs(&self) -> Result<usize, OpenError> {
        let failed = |source| OpenError::Folder { path: self.config.data_dir.clone(), source };
        let referenced: HashSet<String> = version_file::Entity::find()
            .select_only()
            .column(version_file::Column::Digest)
            .distinct()
            .into_tuple()
            .all(&self.db)
            .await?
            .into_iter()
            .collect();
        let mut num_removed = 0;
        for digest in self.objects.list().await.map_err(failed)? {
            if !referenced.contains(&digest.to_string()) {
                self.objects.remove(&digest).await.map_err(failed)?;
                num_removed += 1;
            }
        }
        Ok(num_removed)
    }
}
