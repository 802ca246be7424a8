//! Objects to which nothing refers. They are what a registry leaves that is killed between putting an object in place and
//! noting so, and also what good objects look like to a database that is older than they are. So the first sight of one
//! only notes it; it is removed when it has been there, and noted, for as long as the operator keeps orphans, and when a
//! later sight still finds nothing that refers to it.

use std::collections::HashSet;

use super::Collector;
use crate::blobs::remove_unless_referred_to;
use crate::db::{MAX_IN, blobs, upload_blobs, version_files};
use crate::error::RegistryError;
use crate::metrics;

impl Collector {
    /// Compares every object with the database, a 256th of the store at a time.
    pub(super) async fn sweep_orphans(&self) -> Result<(), RegistryError> {
        let (mut num_found, mut num_removed) = (0, 0);
        for shard in 0..=u8::MAX {
            if !self.has_the_lease().await? {
                return Ok(());
            }
            let stored = self.objects.list(shard).await?;
            for some in stored.chunks(MAX_IN) {
                let names: Vec<_> = some.iter().map(|blob| blob.digest.to_string()).collect();
                let in_use = self.in_use(&names).await?;
                for (name, blob) in names.iter().zip(some).filter(|(name, _)| !in_use.contains(*name)) {
                    if blobs::note_orphan(&self.db, name).await? {
                        num_found += 1;
                        metrics::found_orphan();
                    } else if blob.age >= self.settings.orphans_kept
                        && blobs::is_old_orphan(&self.db, name, self.settings.orphans_kept).await?
                        && remove_unless_referred_to(&self.db, &*self.objects, name).await?
                    {
                        num_removed += 1;
                    }
                }
            }
        }
        metrics::collected("orphan", num_removed);
        if num_found > 0 {
            let kept = self.settings.orphans_kept;
            tracing::warn!(
                num_found,
                "Found {num_found} objects that no version refers to; they are kept for {kept:?}. If the database is older than the objects, restore the right one in that time"
            );
        }
        if num_removed > 0 {
            tracing::info!(num_removed, "Removed {num_removed} objects that no version has referred to for long");
        }
        Ok(())
    }

    async fn in_use(&self, names: &[String]) -> Result<HashSet<String>, RegistryError> {
        let mut in_use = version_files::referred_to(&self.db, names).await?;
        in_use.extend(upload_blobs::counted_on(&self.db, names).await?);
        Ok(in_use)
    }
}
