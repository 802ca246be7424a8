//! Objects to which nothing refers. They are what a registry leaves that is killed between putting an object in place
//! and noting so, and also what good objects look like to a database that is older than they are. So the first sight of
//! one only notes it; it is removed when it has been there, and noted, for as long as the operator keeps orphans, and
//! when a later sight still finds nothing that refers to it.

use std::collections::HashSet;
use std::io;

use souk_protocol::Digest;

use super::Collector;
use crate::blobs::{in_use, referred_to, remove_unless_referred_to};
use crate::db::{MAX_IN, blobs, hook_versions, version_files};
use crate::error::RegistryError;
use crate::metrics;
use crate::objects::StoredBlob;

impl Collector {
    /// Compares every object with the database, a 256th of the store at a time.
    pub(super) async fn sweep_orphans(&self) -> Result<(), RegistryError> {
        let (mut num_found, mut num_removed, mut missing) = (0, 0, Vec::new());
        for shard in 0..=u8::MAX {
            if !self.has_the_lease().await? {
                return Ok(());
            }
            let mut needed = version_files::digests_in(&self.db, shard).await?;
            needed.extend(hook_versions::digests_in(&self.db, shard).await?);
            let stored = self.objects.list(shard).await?;
            missing.extend(self.missing(needed, &stored).await?);
            self.forget_gone(shard, &stored).await?;
            for some in stored.chunks(MAX_IN) {
                let names: Vec<_> = some.iter().map(|blob| blob.digest.to_string()).collect();
                let in_use = in_use(&self.db, &names).await?;
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
        tell_missing(&missing);
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

    /// Those of `needed` that are not among `stored`, and, at a second look, neither gone from the database nor there.
    async fn missing(&self, needed: Vec<String>, stored: &[StoredBlob]) -> Result<Vec<String>, RegistryError> {
        let there: HashSet<_> = stored.iter().map(|blob| blob.digest.to_string()).collect();
        let absent: Vec<_> = needed.into_iter().filter(|digest| !there.contains(digest)).collect();
        let mut missing = Vec::new();
        for some in absent.chunks(MAX_IN) {
            for digest in referred_to(&self.db, some).await? {
                let Ok(parsed) = digest.parse() else { continue };
                if self.is_gone(&parsed).await {
                    missing.push(digest);
                }
            }
        }
        Ok(missing)
    }

    /// Forgets orphans that are gone: noted by a look at the store that was older than their removal.
    async fn forget_gone(&self, shard: u8, stored: &[StoredBlob]) -> Result<(), RegistryError> {
        let there: HashSet<_> = stored.iter().map(|blob| blob.digest.to_string()).collect();
        let noted = blobs::orphans_in(&self.db, shard).await?;
        for name in noted.iter().filter(|name| !there.contains(*name)) {
            if let Ok(digest) = name.parse()
                && self.is_gone(&digest).await
            {
                remove_unless_referred_to(&self.db, &*self.objects, name).await?;
            }
        }
        Ok(())
    }

    async fn is_gone(&self, digest: &Digest) -> bool {
        matches!(self.objects.open(digest).await, Err(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

fn tell_missing(missing: &[String]) {
    metrics::missing(missing.len());
    if let Some(first) = missing.first() {
        let num_missing = missing.len();
        tracing::error!(
            num_missing,
            first,
            "{num_missing} objects that versions refer to are not in the store; if the objects are older than the database, restore the right ones from a backup"
        );
    }
}
