//! The reservation of a version number while its upload runs.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{DatabaseConnection, DatabaseTransaction, DbErr};
use semver::Version;
use souk_protocol::TenantId;
use uuid::Uuid;

use crate::Registry;
use crate::blobs::{end_upload, reopen_upload};
use crate::db::{
    AdapterRow, begin_write_of, blobs, direct_uploads, is_unique_violation, upload_blobs, uploads, versions,
};
use crate::error::RegistryError;
use crate::lease::Renewal;
use crate::metrics::UploadRuns;
use crate::objects::ObjectStore;
use crate::words::VersionState;

/// A row in `uploads` under a lease. Dropped without an end, it ends the upload in the background, or leaves it to its
/// client again.
pub(super) struct InFlight {
    db: DatabaseConnection,
    /// Whose adapter it is for.
    tenant: TenantId,
    objects: Arc<dyn ObjectStore>,
    id: String,
    /// Who works on it, as its row says.
    owner: String,
    /// Whether its client sent the bytes straight to the store. What fails leaves them there, to be completed later.
    is_direct: bool,
    /// The blobs that it has begun to put in place.
    digests: Vec<String>,
    ended: bool,
    running: Option<UploadRuns>,
    _renewal: Renewal,
}

impl InFlight {
    /// Reserves the number, or says why it cannot be had.
    pub(super) async fn begin(
        registry: &Registry,
        adapter: &AdapterRow,
        number: &Version,
        running: Option<UploadRuns>,
    ) -> Result<Self, RegistryError> {
        let name = format!("{}/{}@{number}", adapter.owner, adapter.name);
        let id = format!("upl_{}", Uuid::now_v7().simple());
        let (db, lease, number) = (&registry.db, registry.config.settings.lease, number.to_string());
        let transaction = begin_write_of(db, &adapter.tenant()).await?;
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
        let owner = registry.owner.to_string();
        Ok(Self::of(registry, adapter, &name, id, owner, running))
    }

    /// Takes the upload `id` of `name`, which is left to its client, to complete it: of several that do so at once one
    /// goes on.
    pub(super) async fn take(
        registry: &Registry,
        adapter: &AdapterRow,
        name: &str,
        id: &str,
        running: UploadRuns,
    ) -> Result<Self, RegistryError> {
        // A name for this one taking: should this registry stall and another one take the upload, it is not ours any more.
        let owner = format!("cmp_{}", Uuid::new_v4().simple());
        if !uploads::take(&registry.db, id, &owner, registry.config.settings.lease).await? {
            return Err(RegistryError::UploadInProgress(name.to_owned()));
        }
        let mut taken = Self::of(registry, adapter, name, id.to_owned(), owner, Some(running));
        taken.is_direct = true;
        Ok(taken)
    }

    fn of(
        registry: &Registry,
        adapter: &AdapterRow,
        name: &str,
        id: String,
        owner: String,
        running: Option<UploadRuns>,
    ) -> Self {
        let (db, lease) = (registry.db.clone(), registry.config.settings.lease);
        let renewal = {
            let (db, id, owner) = (db.clone(), id.clone(), owner.clone());
            Renewal::of(format!("the upload of {name}"), lease, move || {
                let (db, id, owner) = (db.clone(), id.clone(), owner.clone());
                async move { uploads::renew(&db, &id, &owner, lease).await }
            })
        };
        Self {
            db,
            tenant: adapter.tenant(),
            objects: registry.objects.clone(),
            id,
            owner,
            is_direct: false,
            digests: Vec::new(),
            ended: false,
            running,
            _renewal: renewal,
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// All bytes are here.
    pub(super) async fn validating(&self) -> Result<(), RegistryError> {
        fence(uploads::set_validating(&self.db, &self.id, &self.owner).await?)
    }

    /// Makes sure that none of these blobs goes away before the upload ends. To be called before they are put in place.
    pub(super) async fn count_on(&mut self, digests: Vec<String>) -> Result<(), RegistryError> {
        let transaction = begin_write_of(&self.db, &self.tenant).await?;
        // The row of the upload first: it is locked, so that nobody ends it meanwhile.
        fence(uploads::set_validating(&transaction, &self.id, &self.owner).await?)?;
        blobs::rely_on(&transaction, &digests).await?;
        upload_blobs::insert_all(&transaction, &self.id, &digests).await?;
        transaction.commit().await?;
        self.digests = digests;
        Ok(())
    }

    /// Ends the upload as part of what makes the version visible, unless somebody has ended it.
    pub(super) async fn end_in(&self, transaction: &DatabaseTransaction) -> Result<(), RegistryError> {
        fence(uploads::lock(transaction, &self.id, &self.owner).await?)?;
        upload_blobs::delete_of(transaction, &self.id).await?;
        direct_uploads::delete(transaction, &self.id).await?;
        fence(uploads::delete(transaction, &self.id).await?)
    }

    /// The transaction of [`Self::end_in`] was committed.
    pub(super) async fn published(mut self) {
        self.ended = true;
        if let Some(running) = &mut self.running {
            running.end("published");
        }
        if self.is_direct {
            discard(&*self.objects, &self.id).await;
        }
    }

    /// Leaves the upload to its client in `transaction`, for as long as `good_for`; answers until when. To be followed by
    /// [`Self::left`].
    pub(super) async fn leave_in(
        &self,
        transaction: &DatabaseTransaction,
        good_for: Duration,
    ) -> Result<i64, RegistryError> {
        let left = uploads::leave_to_client(transaction, &self.id, &self.owner, good_for).await?;
        left.ok_or(RegistryError::LeaseLost)
    }

    /// The transaction of [`Self::leave_in`] was committed.
    pub(super) fn left(mut self) {
        self.ended = true;
    }

    /// Sets the number free before the caller hears of `error`, so that it can try again at once; or leaves what its
    /// client sent where it is.
    pub(super) async fn end_with(mut self, error: RegistryError) -> RegistryError {
        // Other bytes cannot be sent to an upload any more.
        let is_over = matches!(error, RegistryError::WrongBytes { .. } | RegistryError::ContentTakenDown { .. });
        let undo = Undo { digests: std::mem::take(&mut self.digests), ..self.undo(is_over) };
        match undo.run().await {
            Ok(()) => self.ended = true,
            Err(cause) => {
                let id = &self.id;
                tracing::warn!(%cause, upload.id = id, "Upload {id} keeps its number until its lease lapses");
            }
        }
        if let Some(running) = &mut self.running {
            running.end(if matches!(error, RegistryError::Rejected(_)) { "rejected" } else { "failed" });
        }
        error
    }

    /// What to do where it was not completed; `is_over`: nor can it be later.
    fn undo(&self, is_over: bool) -> Undo {
        Undo {
            db: self.db.clone(),
            objects: self.objects.clone(),
            id: self.id.clone(),
            owner: self.owner.clone(),
            digests: Vec::new(),
            is_direct: self.is_direct,
            is_over: is_over || !self.is_direct,
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.ended {
            return;
        }
        let undo = Undo { digests: std::mem::take(&mut self.digests), ..self.undo(false) };
        runtime.spawn(async move {
            let id = undo.id.clone();
            if let Err(error) = undo.run().await {
                tracing::warn!(%error, upload.id = id, "Upload {id} keeps its number until its lease lapses");
            }
        });
    }
}

/// Undoes what an upload did that was not completed.
struct Undo {
    db: DatabaseConnection,
    objects: Arc<dyn ObjectStore>,
    id: String,
    owner: String,
    digests: Vec<String>,
    is_direct: bool,
    is_over: bool,
}

impl Undo {
    async fn run(self) -> Result<(), DbErr> {
        let Self { db, objects, id, owner, digests, is_direct, is_over } = self;
        if !is_over {
            return reopen_upload(&db, &*objects, &id, &owner, digests).await;
        }
        end_upload(&db, &*objects, &id, &owner, digests).await?;
        if is_direct {
            discard(&*objects, &id).await;
        }
        Ok(())
    }
}

/// Removes what the client of an upload that is no more has sent.
pub(super) async fn discard(objects: &dyn ObjectStore, id: &str) {
    if let Err(error) = objects.discard(id).await {
        tracing::warn!(%error, upload.id = id, "What upload {id} staged stays until the collector tries again");
    }
}

fn fence(is_still_ours: bool) -> Result<(), RegistryError> {
    if is_still_ours { Ok(()) } else { Err(RegistryError::LeaseLost) }
}
