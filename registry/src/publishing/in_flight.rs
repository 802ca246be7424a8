//! The reservation of a version number while its upload runs.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{DatabaseConnection, DatabaseTransaction, DbErr};
use semver::Version;
use souk_protocol::{Principal, TenantId};
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
    /// `None` once it has ended or was left to its client: there is nothing to undo.
    held: Option<Held>,
    /// Whose adapter it is for.
    tenant: TenantId,
    running: Option<UploadRuns>,
    _renewal: Renewal,
}

/// What an upload that was not completed is undone by.
struct Held {
    db: DatabaseConnection,
    objects: Arc<dyn ObjectStore>,
    id: String,
    /// Who works on it, as its row says.
    owner: String,
    /// Whether its client sent the bytes straight to the store. What fails leaves them there, to be completed later.
    is_direct: bool,
    /// The blobs that it has begun to put in place.
    digests: Vec<String>,
}

impl InFlight {
    /// Reserves the number, or says why it cannot be had.
    pub(super) async fn begin(
        registry: &Registry,
        principal: &Principal,
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
        // Counted when it becomes visible; who has no more today need send nothing.
        registry.check_versions_today(&transaction, principal).await?;
        transaction.commit().await?;
        Ok(Self::of(registry, adapter, &name, Held::of(registry, id, registry.owner.to_string(), false), running))
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
        Ok(Self::of(registry, adapter, name, Held::of(registry, id.to_owned(), owner, true), Some(running)))
    }

    fn of(registry: &Registry, adapter: &AdapterRow, name: &str, held: Held, running: Option<UploadRuns>) -> Self {
        let lease = registry.config.settings.lease;
        let (db, id, owner) = (held.db.clone(), held.id.clone(), held.owner.clone());
        let renewal = Renewal::of(format!("the upload of {name}"), lease, move || {
            let (db, id, owner) = (db.clone(), id.clone(), owner.clone());
            async move { uploads::renew(&db, &id, &owner, lease).await }
        });
        Self { held: Some(held), tenant: adapter.tenant(), running, _renewal: renewal }
    }

    fn held(&self) -> &Held {
        self.held.as_ref().expect("who ends it consumes it")
    }

    pub(super) fn id(&self) -> &str {
        &self.held().id
    }

    /// All bytes are here.
    pub(super) async fn validating(&self) -> Result<(), RegistryError> {
        let Held { db, id, owner, .. } = self.held();
        fence(uploads::set_validating(db, id, owner).await?)
    }

    /// Makes sure that none of these blobs goes away before the upload ends. To be called before they are put in place.
    pub(super) async fn count_on(&mut self, digests: Vec<String>) -> Result<(), RegistryError> {
        let held = self.held.as_mut().expect("who ends it consumes it");
        let transaction = begin_write_of(&held.db, &self.tenant).await?;
        // The row of the upload first: it is locked, so that nobody ends it meanwhile.
        fence(uploads::set_validating(&transaction, &held.id, &held.owner).await?)?;
        blobs::rely_on(&transaction, &digests).await?;
        upload_blobs::insert_all(&transaction, &held.id, &digests).await?;
        transaction.commit().await?;
        held.digests = digests;
        Ok(())
    }

    /// Ends the upload as part of what makes the version visible, unless somebody has ended it.
    pub(super) async fn end_in(&self, transaction: &DatabaseTransaction) -> Result<(), RegistryError> {
        let Held { id, owner, .. } = self.held();
        fence(uploads::lock(transaction, id, owner).await?)?;
        upload_blobs::delete_of(transaction, id).await?;
        direct_uploads::delete(transaction, id).await?;
        fence(uploads::delete(transaction, id).await?)
    }

    /// The transaction of [`Self::end_in`] was committed.
    pub(super) async fn published(mut self) {
        if let Some(running) = &mut self.running {
            running.end("published");
        }
        if let Some(held) = self.held.take().filter(|held| held.is_direct) {
            discard(&*held.objects, &held.id).await;
        }
    }

    /// Leaves the upload to its client in `transaction`, for as long as `good_for`; answers until when. To be followed by
    /// [`Self::left`].
    pub(super) async fn leave_in(
        &self,
        transaction: &DatabaseTransaction,
        good_for: Duration,
    ) -> Result<i64, RegistryError> {
        let Held { id, owner, .. } = self.held();
        let left = uploads::leave_to_client(transaction, id, owner, good_for).await?;
        left.ok_or(RegistryError::LeaseLost)
    }

    /// The transaction of [`Self::leave_in`] was committed.
    pub(super) fn left(mut self) {
        self.held = None;
    }

    /// Sets the number free before the caller hears of `error`, so that it can try again at once; or leaves what its
    /// client sent where it is.
    pub(super) async fn end_with(mut self, error: RegistryError) -> RegistryError {
        // Other bytes cannot be sent to an upload any more.
        let is_over = matches!(error, RegistryError::WrongBytes { .. } | RegistryError::ContentTakenDown { .. });
        if self.held().undo(is_over).await {
            self.held = None;
        }
        if let Some(running) = &mut self.running {
            running.end(if matches!(error, RegistryError::Rejected(_)) { "rejected" } else { "failed" });
        }
        error
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if let Some(held) = self.held.take() {
            runtime.spawn(async move { held.undo(false).await });
        }
    }
}

impl Held {
    fn of(registry: &Registry, id: String, owner: String, is_direct: bool) -> Self {
        let (db, objects) = (registry.db.clone(), registry.objects.clone());
        Self { db, objects, id, owner, is_direct, digests: Vec::new() }
    }

    /// Undoes what the upload did, unless it can be completed later; `is_over`: it cannot. Answers whether it did.
    async fn undo(&self, is_over: bool) -> bool {
        match self.try_undo(is_over).await {
            Ok(()) => true,
            Err(error) => {
                let id = &self.id;
                tracing::warn!(%error, upload.id = id, "Upload {id} keeps its number until its lease lapses");
                false
            }
        }
    }

    async fn try_undo(&self, is_over: bool) -> Result<(), DbErr> {
        let Self { db, objects, id, owner, is_direct, digests } = self;
        if *is_direct && !is_over {
            return reopen_upload(db, &**objects, id, owner, digests.clone()).await;
        }
        end_upload(db, &**objects, id, owner, digests.clone()).await?;
        if *is_direct {
            discard(&**objects, id).await;
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
