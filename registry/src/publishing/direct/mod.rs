//! Uploads of which the large part goes from the client straight into the object store, a part at a time.
//!
//! Beginning one reserves the number like any upload and leaves it to the client: its lease is the time in which it can be
//! completed. The client asks for addresses, sends parts, may be interrupted, and sees what has arrived. To complete it a
//! registry takes it under a lease of its own, reads all bytes, looks at them as at those that pass through it, and has
//! the store copy them to their digest. What fails meanwhile, a killed registry too, leaves it to the client again, but
//! for bytes that are not those announced. The collector ends what was not completed in time.

mod complete;
mod parts;

use std::time::Duration;

use sea_orm::{DatabaseTransaction, DbErr};
use semver::Version;
use serde::Serialize;
use serde_json::json;
use souk_protocol::manifest::WEIGHTS_FILE;
use souk_protocol::{Digest, Principal};

use self::complete::Completion;
pub(crate) use self::parts::PartRequest;
use self::parts::check_parts;
use super::in_flight::{InFlight, discard};
use crate::Registry;
use crate::audit::{self, Act, Actor};
use crate::crash_points::{CrashPoint, pass};
use crate::db::{AdapterRow, DirectUploadRow, begin_write_of, direct_uploads, now_ms, uploads};
use crate::error::{Finding, RegistryError};
use crate::idempotency::Once;
use crate::objects::{DirectPart, DirectUploads, MAX_PARTS, PartAddress};
use crate::rights::Action;
use crate::slice::Slice;
use crate::words::parse_version;

/// How long an address is good: long enough for a large part on a slow line, short enough that one that leaks is soon
/// worth nothing.
const ADDRESS_LIVES: Duration = Duration::from_secs(3600);

/// An upload as a caller asks for it, unchecked.
pub(crate) struct AskedUpload {
    /// The version's number.
    pub(crate) version: String,
    /// SHA-256 of the weights file.
    pub(crate) digest: String,
    /// Its length.
    pub(crate) size_bytes: u64,
}

/// Where a part is to be sent.
pub(crate) struct SignedPart {
    pub(crate) address: PartAddress,
    pub(crate) size_bytes: u64,
}

/// How far an upload is.
#[derive(Clone)]
pub(crate) enum Progress {
    /// These parts have arrived.
    Parts(Vec<DirectPart>),
    /// All of it has, and it is one object; a registry may be completing it.
    Whole,
}

/// An upload that is left to its client.
#[derive(Clone)]
pub(crate) struct DirectDetails {
    pub(crate) row: DirectUploadRow,
    /// `None` where it was not asked for.
    pub(crate) progress: Option<Progress>,
}
impl Registry {
    /// Reserves the number and begins the upload. `shape` makes the answer that is kept for an `Idempotency-Key`.
    pub(crate) async fn begin_direct_upload<A: Serialize>(
        &self,
        principal: &Principal,
        (owner, name): (&str, &str),
        asked: AskedUpload,
        once: &Once,
        shape: impl FnOnce(DirectDetails) -> A,
    ) -> Result<DirectDetails, RegistryError> {
        let adapter = self.adapter_for(principal, Action::BeginUpload, owner, name).await?;
        let direct = self.direct()?;
        let (number, digest) = self.check_asked(direct, &asked)?;
        self.room.check(&self.db, &adapter.tenant(), asked.size_bytes).await?;
        let in_flight = InFlight::begin(self, principal, &adapter, &number, None).await?;
        let mut row = DirectUploadRow {
            upload_id: in_flight.id().to_owned(),
            tenant_id: adapter.tenant_id.clone(),
            adapter_id: adapter.id.clone(),
            version: number.to_string(),
            digest: digest.to_string(),
            size_bytes: i64::try_from(asked.size_bytes).unwrap_or(i64::MAX),
            part_bytes: i64::try_from(direct.part_bytes()).unwrap_or(i64::MAX),
            expires_at_ms: 0,
            store_id: None,
        };
        let begun = async {
            row.store_id = Some(direct.begin(in_flight.id()).await?);
            pass(CrashPoint::ObjectStaged);
            self.leave_to_client(principal, &in_flight, row, once, shape).await
        };
        match begun.await {
            Ok(begun) => {
                in_flight.left();
                Ok(begun)
            }
            Err(error) => {
                let id = in_flight.id().to_owned();
                let error = in_flight.end_with(error).await;
                discard(&*self.objects, &id).await;
                Err(error)
            }
        }
    }

    /// The uploads for an adapter that can be completed, oldest first; a sort key is an id.
    pub(crate) async fn list_direct_uploads(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        slice: Slice,
    ) -> Result<Vec<DirectDetails>, RegistryError> {
        let adapter = self.adapter_for(principal, Action::ListUploads, owner, name).await?;
        // Who asks before it begins one learns here that there is none to begin.
        self.direct()?;
        let limit = slice.with_one_more();
        let rows = direct_uploads::list(&self.db, &adapter.id, slice.after, limit).await?;
        Ok(rows.into_iter().map(|row| DirectDetails { row, progress: None }).collect())
    }

    /// An upload, and what has arrived of it.
    pub(crate) async fn get_direct_upload(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        id: &str,
    ) -> Result<DirectDetails, RegistryError> {
        let adapter = self.adapter_for(principal, Action::GetUpload, owner, name).await?;
        let row = self.direct_upload(&adapter, id).await?;
        let arrived = self.direct()?.parts(row.begun()).await?;
        let progress = Some(arrived.map_or(Progress::Whole, Progress::Parts));
        Ok(DirectDetails { row, progress })
    }

    /// Where parts are to be sent.
    pub(crate) async fn direct_addresses(
        &self,
        principal: &Principal,
        (owner, name): (&str, &str),
        id: &str,
        asked: Vec<PartRequest>,
    ) -> Result<Vec<SignedPart>, RegistryError> {
        let adapter = self.adapter_for(principal, Action::AddressParts, owner, name).await?;
        let row = self.direct_upload(&adapter, id).await?;
        let direct = self.direct()?;
        let parts = check_parts(&row, asked)?;
        let left_ms = u64::try_from(row.expires_at_ms - now_ms()).unwrap_or_default().max(1000);
        let good_for = ADDRESS_LIVES.min(Duration::from_millis(left_ms));
        // A row with the store's id takes parts; without it the store says whether the upload does.
        let addresses = match direct.addresses(row.begun(), &parts, good_for).await {
            Ok(addresses) => addresses,
            Err(_) if matches!(direct.parts(row.begun()).await, Ok(None)) => {
                return Err(RegistryError::PartsTaken(id.to_owned()));
            }
            Err(error) => return Err(error.into()),
        };
        let sizes = parts.iter().map(|part| part.size_bytes);
        Ok(addresses.into_iter().zip(sizes).map(|(address, size_bytes)| SignedPart { address, size_bytes }).collect())
    }

    /// Ends an upload: what has arrived goes, and its number is free.
    pub(crate) async fn abort_direct_upload(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        id: &str,
    ) -> Result<(), RegistryError> {
        let adapter = self.adapter_for(principal, Action::AbortUpload, owner, name).await?;
        let row = self.direct_upload(&adapter, id).await?;
        let transaction = begin_write_of(&self.db, &adapter.tenant()).await?;
        if !uploads::lock(&transaction, id, uploads::NOBODY).await? {
            return Err(RegistryError::UploadInProgress(format!("{owner}/{name}@{}", row.version)));
        }
        direct_uploads::delete(&transaction, id).await?;
        uploads::delete(&transaction, id).await?;
        note(&transaction, principal, "upload.aborted", &row).await?;
        transaction.commit().await?;
        discard(&*self.objects, id).await;
        Ok(())
    }

    /// Checks that the caller may publish under `owner/name` and that one more upload may run here.
    pub(crate) async fn begin_completion(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        id: &str,
    ) -> Result<Completion, RegistryError> {
        let adapter = self.adapter_for(principal, Action::CompleteUpload, owner, name).await?;
        let place = self.gates.begin_upload(principal)?;
        Ok(Completion { registry: self.clone(), principal: principal.clone(), adapter, place, id: id.to_owned() })
    }

    fn direct(&self) -> Result<&dyn DirectUploads, RegistryError> {
        self.objects.direct().ok_or(RegistryError::NoDirectUploads)
    }

    /// One for this adapter, which is the caller's.
    async fn direct_upload(&self, adapter: &AdapterRow, id: &str) -> Result<DirectUploadRow, RegistryError> {
        self.direct()?;
        let found = direct_uploads::get(&self.db, &adapter.id, id).await?;
        found.ok_or_else(|| RegistryError::NotFound { what: "upload", name: id.to_owned() })
    }

    fn check_asked(&self, direct: &dyn DirectUploads, asked: &AskedUpload) -> Result<(Version, Digest), RegistryError> {
        let limit_bytes = self.config.settings.max_adapter_bytes.min(direct.part_bytes().saturating_mul(MAX_PARTS));
        if asked.size_bytes > limit_bytes {
            return Err(RegistryError::TooLarge { what: WEIGHTS_FILE.to_owned(), limit_bytes });
        }
        let (number, digest) = (parse_version(&asked.version), asked.digest.parse::<Digest>());
        let wrong = [
            number.as_ref().err().map(|detail| Finding::field("version", detail.clone())),
            digest.as_ref().err().map(|error| Finding::field("digest", error.to_string())),
            (asked.size_bytes == 0).then(|| Finding::field("size_bytes", "at least 1, given 0")),
        ];
        match (number, digest, wrong.into_iter().flatten().collect::<Vec<_>>()) {
            (Ok(number), Ok(digest), wrong) if wrong.is_empty() => Ok((number, digest)),
            (_, _, wrong) => Err(RegistryError::invalid(wrong)),
        }
    }

    /// The rows of an upload that is begun in the store.
    async fn leave_to_client<A: Serialize>(
        &self,
        principal: &Principal,
        in_flight: &InFlight,
        row: DirectUploadRow,
        once: &Once,
        shape: impl FnOnce(DirectDetails) -> A,
    ) -> Result<DirectDetails, RegistryError> {
        let settings = &self.config.settings;
        let transaction = begin_write_of(&self.db, &row.tenant()).await?;
        let expires_at_ms = in_flight.leave_in(&transaction, settings.direct_upload_lives).await?;
        let given = direct_uploads::count_of(&transaction, &row.tenant()).await?;
        RegistryError::unless_fewer(given, settings.max_direct_uploads_per_tenant, |given, limit| {
            let (of, setting) = ("the tenant".to_owned(), "registry.max_direct_uploads_per_tenant");
            let remedy = "complete or end one first";
            RegistryError::TooMany { what: "uploads under way", of, setting, limit, given, remedy }
        })?;
        let row = DirectUploadRow { expires_at_ms, ..row };
        direct_uploads::insert(&transaction, row.clone()).await?;
        // With this one: two may have been let in at the same moment.
        self.room.check(&transaction, &row.tenant(), 0).await?;
        note(&transaction, principal, "upload.begun", &row).await?;
        let begun = DirectDetails { row, progress: None };
        once.keep_in(&transaction, || shape(begun.clone())).await?;
        transaction.commit().await?;
        Ok(begun)
    }
}

/// Appends what was done with an upload to its tenant's chain.
async fn note(
    transaction: &DatabaseTransaction,
    principal: &Principal,
    action: &'static str,
    row: &DirectUploadRow,
) -> Result<(), DbErr> {
    let (tenant_id, subject) = (&row.tenant_id, &row.upload_id);
    let details = json!({ "adapter_id": row.adapter_id, "version": row.version, "digest": row.digest });
    audit::append(transaction, Actor::of(principal), Act { tenant_id, action, subject, details }).await
}
