//! Ends and removes what nobody works on any more. Every registry has a collector; one at a time works, whoever has the
//! lease named `collector`. Nothing here depends on that: each act checks in its own transaction that what it ends has
//! lapsed and that nothing refers to what it removes.
//!
//! Starting a registry removes nothing. A lapsed lease is ended at its second sight (see [`crate::lease`]), an object
//! without references long after its first ([`orphans`]).

mod erasures;
mod orphans;
mod retention;
mod sights;

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{DatabaseConnection, DatabaseTransaction};
use serde_json::json;
use tokio::time::Instant;

use crate::audit::{self, Act, Actor, Publisher};
use crate::blobs::{end_upload_in, remove_released, reopen_upload_in};
use crate::config::RegistrySettings;
use crate::db::{
    MAX_IN, UploadRow, adapters, begin_write, blobs, direct_uploads, hook_versions, idempotent_requests, invitations,
    leases, login_codes, logins, sessions, sign_in_links, signing_keys, uploads, withdrawals,
};
use crate::error::RegistryError;
use crate::lease::time_between_sights;
use crate::metrics;
use crate::objects::ObjectStore;
use crate::tokens::SigningKeys;
use crate::withdrawals::ROWS_KEPT;
use sights::Sights;

/// The name of its lease.
const LEASE: &str = "collector";

/// What the collector works with.
pub(crate) struct Collector {
    pub(crate) db: DatabaseConnection,
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// The registry that it belongs to.
    pub(crate) owner: Arc<str>,
    pub(crate) settings: RegistrySettings,
    /// How long sessions and the addresses of invitations are kept after they are over.
    pub(crate) people_kept: Duration,
}

/// What was seen lapsed, and when.
struct Seen {
    /// Uploads, by id, with the end of their lease.
    uploads: Sights<String, i64>,
    /// Claims of an `Idempotency-Key`, by their name, with the end of their lease.
    claims: Sights<String, Option<i64>>,
    /// Versions of hooks that are validated, by id, with the end of their lease.
    hooks: Sights<String, Option<i64>>,
    /// Uploads that have something staged and no row.
    staged: Sights<String, ()>,
}

impl Collector {
    /// Works until it is dropped.
    pub(crate) async fn run(self) {
        let mut seen = Seen::new(time_between_sights(self.settings.lease));
        let mut swept_at = None::<Instant>;
        let mut publisher = Publisher::new(self.settings.publish_heads_every);
        loop {
            tokio::time::sleep(self.settings.collect_every).await;
            match self.has_the_lease().await {
                Ok(true) => {}
                Ok(false) => {
                    // Another registry collects. What was seen here may have changed owners by the next time.
                    seen = Seen::new(time_between_sights(self.settings.lease));
                    publisher = Publisher::new(self.settings.publish_heads_every);
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, "The collector cannot get at its lease");
                    continue;
                }
            }
            if let Err(error) = self.collect(&mut seen).await {
                tracing::warn!(%error, "The collector could not finish its round");
            }
            if let Err(error) = publisher.look(&self.db).await {
                tracing::warn!(%error, "The collector could not publish where audit chains end");
            }
            if swept_at.is_none_or(|at| at.elapsed() >= self.settings.sweep_every) {
                swept_at = Some(Instant::now());
                if let Err(error) = self.remove_old_entries().await {
                    tracing::warn!(%error, "The collector could not remove audit entries that are kept no longer");
                }
                if let Err(error) = self.remove_old_usage().await {
                    tracing::warn!(%error, "The collector could not remove rows of usage that are kept no longer");
                }
                if let Err(error) = self.sweep_orphans().await {
                    tracing::warn!(%error, "The collector could not compare the objects with the database");
                }
            }
        }
    }

    /// Takes or renews the collector's lease; answers whether it is this registry's now.
    async fn has_the_lease(&self) -> Result<bool, RegistryError> {
        // Long enough for a round that follows the pause.
        let lease = self.settings.lease.max(self.settings.collect_every * 3);
        Ok(leases::hold(&self.db, LEASE, &self.owner, lease).await?)
    }

    async fn collect(&self, seen: &mut Seen) -> Result<(), RegistryError> {
        self.end_lapsed_uploads(seen).await?;
        self.end_lapsed_hooks(seen).await?;
        self.end_lapsed_claims(seen).await?;
        self.discard_staged(seen).await?;
        self.remove_released_blobs().await?;
        idempotent_requests::delete_old(&self.db).await?;
        withdrawals::delete_older(&self.db, ROWS_KEPT).await?;
        self.remove_old_events().await?;
        self.erase_due_tenant().await?;
        sign_in_links::delete_expired(&self.db).await?;
        logins::delete_expired(&self.db).await?;
        login_codes::delete_expired(&self.db).await?;
        sessions::delete_over(&self.db, self.people_kept).await?;
        invitations::forget_closed(&self.db, self.people_kept).await?;
        signing_keys::delete_older(&self.db, SigningKeys::kept(self.settings.rotate_signing_key_after())).await?;
        Ok(())
    }

    async fn end_lapsed_uploads(&self, seen: &mut Seen) -> Result<(), RegistryError> {
        let lapsed = uploads::lapsed(&self.db).await?;
        let lapsed = lapsed.into_iter().map(|row| (row.id, row.lease_expires_at_ms));
        for (id, expires_at_ms) in seen.uploads.twice(lapsed) {
            if !self.end_lapsed_upload(&id, expires_at_ms).await? {
                continue;
            }
            let num_staged = self.objects.discard(&id).await?;
            metrics::collected("upload", 1);
            tracing::info!(upload.id = id, num_staged, "Ended upload {id}, which nobody worked on any more");
        }
        Ok(direct_uploads::delete_ended(&self.db).await?)
    }

    /// Ends an upload whose lease was not renewed, or leaves it to its client again, if that sent it to the store and may
    /// still complete it. Answers whether it was ended.
    async fn end_lapsed_upload(&self, id: &str, expires_at_ms: i64) -> Result<bool, RegistryError> {
        let transaction = begin_write(&self.db).await?;
        let Some(upload) = uploads::lock_lapsed(&transaction, id, expires_at_ms).await? else { return Ok(false) };
        let may_be_completed = direct_uploads::unexpired(&transaction, id).await?;
        let digests = match may_be_completed {
            Some(until_ms) => reopen_upload_in(&transaction, id, &upload.owner, until_ms, Vec::new()).await?,
            None => {
                let digests = end_upload_in(&transaction, id, Vec::new()).await?;
                note_abandoned(&transaction, &upload).await?;
                digests
            }
        };
        transaction.commit().await?;
        remove_released(&self.db, &*self.objects, digests).await;
        Ok(may_be_completed.is_none())
    }

    /// Sets the numbers of versions of hooks free that nobody validates any more.
    async fn end_lapsed_hooks(&self, seen: &mut Seen) -> Result<(), RegistryError> {
        let lapsed = hook_versions::lapsed(&self.db).await?;
        for (id, expires_at_ms) in seen.hooks.twice(lapsed.iter().map(|row| (row.id.clone(), row.lease_expires_at_ms)))
        {
            let transaction = begin_write(&self.db).await?;
            // Read here, since what it was compiled to may have been noted since it was seen.
            let found = hook_versions::by_ids(&transaction, [id.as_str()]).await?;
            if !hook_versions::delete_lapsed(&transaction, &id, expires_at_ms).await? {
                continue;
            }
            let both = found.into_iter().flat_map(|row| [Some(row.digest), row.artifact_digest]);
            let digests: Vec<_> = both.flatten().collect();
            blobs::release(&transaction, &digests).await?;
            transaction.commit().await?;
            remove_released(&self.db, &*self.objects, digests).await;
            let num_staged = self.objects.discard(&id).await?;
            metrics::collected("hook_version", 1);
            tracing::info!(
                version.id = id,
                num_staged,
                "Ended version {id} of a hook, which nobody validated any more"
            );
        }
        Ok(())
    }

    async fn end_lapsed_claims(&self, seen: &mut Seen) -> Result<(), RegistryError> {
        let lapsed = idempotent_requests::lapsed(&self.db).await?;
        let name =
            |row: &idempotent_requests::Model| format!("{}\n{}\n{}", row.tenant_id, row.route, row.idempotency_key);
        let twice = seen.claims.twice(lapsed.iter().map(|row| (name(row), row.lease_expires_at_ms)));
        for (seen_name, _) in twice {
            let Some(row) = lapsed.iter().find(|row| name(row) == seen_name) else { continue };
            if idempotent_requests::delete_lapsed(&self.db, row).await? {
                metrics::collected("claim", 1);
                let route = &row.route;
                tracing::info!(
                    route,
                    "Set an Idempotency-Key of {route} free, whose request nobody worked on any more"
                );
            }
        }
        Ok(())
    }

    /// Discards what is staged for uploads that are no more. A file that is staged has a row from before to after, so
    /// one without is what a killed process left.
    async fn discard_staged(&self, seen: &mut Seen) -> Result<(), RegistryError> {
        let staged = self.objects.staged().await?;
        // Looked up after the files: an upload that began in between is not among them.
        let mut running = uploads::ids(&self.db).await?;
        running.extend(hook_versions::ids_in_work(&self.db).await?);
        let ownerless = staged.into_iter().filter(|upload| !running.contains(upload)).map(|upload| (upload, ()));
        for (upload, ()) in seen.staged.twice(ownerless) {
            let num_discarded = self.objects.discard(&upload).await?;
            metrics::collected("staged", num_discarded);
            tracing::info!(upload.id = upload, num_discarded, "Discarded what ended upload {upload} had staged");
        }
        Ok(())
    }

    /// Removes blobs that whoever released them should have removed at once and has not for as long as a lease.
    async fn remove_released_blobs(&self) -> Result<(), RegistryError> {
        let released = blobs::released(&self.db, self.settings.lease, MAX_IN as u64).await?;
        let num_removed = remove_released(&self.db, &*self.objects, released).await;
        metrics::collected("blob", num_removed);
        Ok(())
    }
}

/// Appends to the chain of the adapter's tenant that the number of an upload is free again.
async fn note_abandoned(transaction: &DatabaseTransaction, upload: &UploadRow) -> Result<(), RegistryError> {
    let adapters = adapters::by_ids(transaction, [upload.adapter_id.as_str()]).await?;
    let Some(adapter) = adapters.first() else { return Ok(()) };
    let subject = &format!("{}/{}@{}", adapter.owner, adapter.name, upload.version);
    let details = json!({ "upload": upload.id, "state": upload.state });
    let act = Act { tenant_id: &adapter.tenant_id, action: "upload.abandoned", subject, details };
    Ok(audit::append(transaction, Actor::System, act).await?)
}

impl Seen {
    fn new(apart: Duration) -> Self {
        Self {
            uploads: Sights::new(apart),
            claims: Sights::new(apart),
            hooks: Sights::new(apart),
            staged: Sights::new(apart),
        }
    }
}
