//! The reservation of a version number while its upload runs.

use std::sync::Arc;

use sea_orm::{DatabaseConnection, DatabaseTransaction};
use semver::Version;
use uuid::Uuid;

use crate::Registry;
use crate::blobs::end_upload;
use crate::db::{AdapterRow, begin_write_of, blobs, is_unique_violation, upload_blobs, uploads, versions};
use crate::error::RegistryError;
use crate::lease::Renewal;
use crate::metrics::UploadRuns;
use crate::objects::ObjectStore;
use crate::words::VersionState;

/// A row in `uploads` under a lease. Dropped without an end, it ends the upload in the background.
pub(super) struct InFlight {
    db: DatabaseConnection,
    /// Whose adapter it is for.
    tenant_id: String,
    objects: Arc<dyn ObjectStore>,
    id: String,
    /// The blobs that it has begun to put in place.
    digests: Vec<String>,
    ended: bool,
    running: UploadRuns,
    _renewal: Renewal,
}

impl InFlight {
    /// Reserves the number, or says why it cannot be had.
    pub(super) async fn begin(
        registry: &Registry,
        adapter: &AdapterRow,
        number: &Version,
        running: UploadRuns,
    ) -> Result<Self, RegistryError> {
        let name = format!("{}/{}@{number}", adapter.owner, adapter.name);
        let id = format!("upl_{}", Uuid::now_v7().simple());
        let (db, lease, number) = (&registry.db, registry.config.settings.lease, number.to_string());
        let transaction = begin_write_of(db, &adapter.tenant_id).await?;
        uploads::insert(&transaction, &id, &adapter.id, &number, &registry.owner, lease).await.map_err(|error| {
            if is_unique_violation(&error) { RegistryError::UploadInProgress(name.clone()) } else { error.into() }
        })?;
        // Looked up after the reservation: an upload that ended in between has its version visible by now.
        let existing = versions::numbered_ever(&transaction, &adapter.id, &number).await?;
        match existing.map(|version| version.state()) {
            None => {}
            Some(VersionState::Deleted) => return Err(RegistryError::Retired { what: "version", name }),
            Some(_) => return Err(RegistryError::AlreadyExists { what: "version", name }),
        }
        // Of those that are being uploaded, this is one.
        let num_others = uploads::count_of(&transaction, &adapter.id).await? - 1;
        let given = versions::count_of(&transaction, &adapter.id).await? + num_others;
        RegistryError::unless_fewer(given, registry.config.settings.max_versions_per_adapter, |given, limit| {
            let of = format!("{}/{}", adapter.owner, adapter.name);
            let setting = "registry.max_versions_per_adapter";
            RegistryError::TooMany { what: "versions", of, setting, limit, given, remedy: "delete one first" }
        })?;
        transaction.commit().await?;
        let renewal = {
            let (db, id) = (db.clone(), id.clone());
            Renewal::of(format!("the upload of {name}"), lease, move || {
                let (db, id) = (db.clone(), id.clone());
                async move { uploads::renew(&db, &id, lease).await }
            })
        };
        Ok(Self {
            db: db.clone(),
            tenant_id: adapter.tenant_id.clone(),
            objects: registry.objects.clone(),
            id,
            digests: Vec::new(),
            ended: false,
            running,
            _renewal: renewal,
        })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// All bytes are here.
    pub(super) async fn validating(&self) -> Result<(), RegistryError> {
        fence(uploads::set_validating(&self.db, &self.id).await?)
    }

    /// Makes sure that none of these blobs goes away before the upload ends. To be called before they are put in place.
    pub(super) async fn count_on(&mut self, digests: Vec<String>) -> Result<(), RegistryError> {
        let transaction = begin_write_of(&self.db, &self.tenant_id).await?;
        // The row of the upload first: it is locked, so that nobody ends it meanwhile.
        fence(uploads::set_validating(&transaction, &self.id).await?)?;
        blobs::rely_on(&transaction, &digests).await?;
        upload_blobs::insert_all(&transaction, &self.id, &digests).await?;
        transaction.commit().await?;
        self.digests = digests;
        Ok(())
    }

    /// Ends the upload as part of what makes the version visible, unless somebody has ended it.
    pub(super) async fn end_in(&self, transaction: &DatabaseTransaction) -> Result<(), RegistryError> {
        upload_blobs::delete_of(transaction, &self.id).await?;
        fence(uploads::delete(transaction, &self.id).await?)
    }

    /// The transaction of [`Self::end_in`] was committed.
    pub(super) fn published(mut self) {
        self.ended = true;
        self.running.end("published");
    }

    /// Sets the number free before the caller hears of `error`, so that it can try again at once.
    pub(super) async fn end_with(mut self, error: RegistryError) -> RegistryError {
        match end_upload(&self.db, &*self.objects, &self.id, std::mem::take(&mut self.digests)).await {
            Ok(_) => self.ended = true,
            Err(cause) => {
                let id = &self.id;
                tracing::warn!(%cause, upload.id = id, "Upload {id} keeps its number until its lease lapses");
            }
        }
        self.running.end(if matches!(error, RegistryError::Rejected(_)) { "rejected" } else { "failed" });
        error
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.ended {
            return;
        }
        let (db, objects, id) = (self.db.clone(), self.objects.clone(), std::mem::take(&mut self.id));
        let digests = std::mem::take(&mut self.digests);
        runtime.spawn(async move {
            if let Err(error) = end_upload(&db, &*objects, &id, digests).await {
                tracing::warn!(%error, upload.id = id, "Upload {id} keeps its number until its lease lapses");
            }
        });
    }
}

fn fence(is_still_ours: bool) -> Result<(), RegistryError> {
    if is_still_ours { Ok(()) } else { Err(RegistryError::LeaseLost) }
}
