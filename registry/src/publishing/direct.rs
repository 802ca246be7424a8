//! Uploads of which the large part goes from the client straight into the object store, a part at a time.
//!
//! Beginning one reserves the number like any upload and leaves it to the client: its lease is the time in which it can be
//! completed. The client asks for addresses, sends parts, may be interrupted, and sees what has arrived. To complete it a
//! registry takes it under a lease of its own, reads all bytes, looks at them as at those that pass through it, and has
//! the store copy them to their digest. What fails meanwhile, a killed registry too, leaves it to the client again, but
//! for bytes that are not those announced. The collector ends what was not completed in time.

use std::time::Duration;

use sea_orm::{DatabaseTransaction, DbErr};
use semver::Version;
use serde::Serialize;
use serde_json::json;
use souk_protocol::gate::Pass;
use souk_protocol::manifest::WEIGHTS_FILE;
use souk_protocol::{Digest, Principal};

use super::in_flight::{InFlight, discard};
use super::receive::{Received, Receiver, Staged, Store, look_through};
use super::{Complete, Kind, Parts, Upload};
use crate::Registry;
use crate::audit::{self, Act, Actor};
use crate::crash_points::{CrashPoint, pass};
use crate::db::{AdapterRow, DirectUploadRow, begin_write_of, direct_uploads, now_ms, uploads};
use crate::error::{Finding, RegistryError};
use crate::gates::Holder;
use crate::idempotency::Once;
use crate::metrics;
use crate::objects::{DirectPart, DirectUploads, MAX_PARTS, PartAddress};
use crate::rights::Action;
use crate::room::Claim;
use crate::slice::Slice;
use crate::versions::VersionDetails;
use crate::words::parse_version;

/// How long an address is good: long enough for a large part on a slow line, short enough that one that leaks is soon
/// worth nothing.
const ADDRESS_LIVES: Duration = Duration::from_secs(3600);
/// Most parts that one call asks addresses for: some gigabytes, in an answer of some 100 KiB.
const MAX_ADDRESSES: usize = 100;
/// How many of the missing parts an error names.
const MAX_NAMED: usize = 8;

/// An upload as a caller asks for it, unchecked.
pub(crate) struct AskedUpload {
    /// The version's number.
    pub(crate) version: String,
    /// SHA-256 of the weights file.
    pub(crate) digest: String,
    /// Its length.
    pub(crate) size_bytes: u64,
}

/// A part that a caller wants to send, unchecked.
pub(crate) struct PartRequest {
    /// From 1.
    pub(crate) number: u64,
    /// SHA-256 of its bytes.
    pub(crate) digest: String,
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

/// The completion of an upload that may begin.
pub(crate) struct Completion {
    registry: Registry,
    principal: Principal,
    adapter: AdapterRow,
    place: Pass<Holder>,
    id: String,
}

/// A completion of which everything has arrived. Nobody waits for the client any more.
pub(crate) struct CompleteDirect {
    completion: Completion,
    row: DirectUploadRow,
    claim: Claim,
    small: Received,
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
        self.room.check(&self.db, &adapter.tenant_id, asked.size_bytes).await?;
        let in_flight = InFlight::begin(self, &adapter, &number, None).await?;
        let row = DirectUploadRow {
            upload_id: in_flight.id().to_owned(),
            tenant_id: adapter.tenant_id.clone(),
            adapter_id: adapter.id.clone(),
            version: number.to_string(),
            digest: digest.to_string(),
            size_bytes: i64::try_from(asked.size_bytes).unwrap_or(i64::MAX),
            part_bytes: i64::try_from(direct.part_bytes()).unwrap_or(i64::MAX),
            expires_at_ms: 0,
        };
        let begun = async {
            direct.begin(in_flight.id()).await?;
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
        let arrived = self.direct()?.parts(id).await?;
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
        let addresses = match direct.addresses(id, &parts, good_for).await {
            Ok(addresses) => addresses,
            Err(_) if matches!(direct.parts(id).await, Ok(None)) => {
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
        let transaction = begin_write_of(&self.db, &adapter.tenant_id).await?;
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
            (_, _, wrong) => Err(RegistryError::BadRequest {
                code: "invalid_fields",
                detail: format!("the body has {} invalid field(s)", wrong.len()),
                findings: wrong,
            }),
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
        let transaction = begin_write_of(&self.db, &row.tenant_id).await?;
        let expires_at_ms = in_flight.leave_in(&transaction, settings.direct_upload_lives).await?;
        let given = direct_uploads::count_of(&transaction, &row.tenant_id).await?;
        RegistryError::unless_fewer(given, settings.max_direct_uploads_per_tenant, |given, limit| {
            let (of, setting) = ("the tenant".to_owned(), "registry.max_direct_uploads_per_tenant");
            let remedy = "complete or end one first";
            RegistryError::TooMany { what: "uploads under way", of, setting, limit, given, remedy }
        })?;
        let row = DirectUploadRow { expires_at_ms, ..row };
        direct_uploads::insert(&transaction, row.clone()).await?;
        // With this one: two may have been let in at the same moment.
        self.room.check(&transaction, &row.tenant_id, 0).await?;
        note(&transaction, principal, "upload.begun", &row).await?;
        let begun = DirectDetails { row, progress: None };
        once.keep_in(&transaction, || shape(begun.clone())).await?;
        transaction.commit().await?;
        Ok(begun)
    }
}

impl Completion {
    /// Takes the small parts in.
    pub(crate) async fn receive(self, parts: &mut dyn Parts) -> Result<CompleteDirect, RegistryError> {
        let registry = &self.registry;
        let row = registry.direct_upload(&self.adapter, &self.id).await?;
        let mut claim = registry.room.claim(&registry.db, &self.adapter.tenant_id, 0).await?;
        let store = Store { objects: &*registry.objects, upload_id: &self.id, claim: &mut claim };
        let small = self.receiver(parts).receive(Some(store)).await?;
        Ok(CompleteDirect { completion: self, row, claim, small })
    }

    /// Takes the small parts in and keeps nothing; answers the digest over all that was sent.
    pub(crate) async fn fingerprint(self, parts: &mut dyn Parts) -> Result<Digest, RegistryError> {
        Ok(self.receiver(parts).receive(None).await?.fingerprint(&self.id))
    }

    fn receiver<'a>(&self, parts: &'a mut dyn Parts) -> Receiver<'a> {
        let settings = &self.registry.config.settings;
        Receiver::of_small(parts, Kind::Adapter.parts(settings), settings.upload_idle_timeout)
    }
}

impl CompleteDirect {
    /// A digest over all that was sent.
    pub(crate) fn fingerprint(&self) -> Digest {
        self.small.fingerprint(&self.completion.id)
    }

    /// Makes the version visible, or says everything that is wrong with it. To be run in a task of its own, as
    /// [`Complete::publish`].
    pub(crate) async fn publish<A: Serialize>(
        self,
        once: &Once,
        shape: impl FnOnce(VersionDetails) -> A,
    ) -> Result<VersionDetails, RegistryError> {
        let Self { completion, row, claim, small } = self;
        let Completion { registry, principal, adapter, place, id } = completion;
        let kind = Kind::Adapter;
        let name = format!("{}/{}@{}", adapter.owner, adapter.name, row.version);
        let running = metrics::UploadRuns::begin(kind.as_str());
        let in_flight = InFlight::take(&registry, &adapter, &name, &id, running).await?;
        let staged = match staged(registry.direct()?, kind, &row).await {
            Ok(staged) => staged,
            Err(error) => return Err(in_flight.end_with(error).await),
        };
        let number = Version::parse(&row.version).map_err(std::io::Error::other)?;
        let received = small.with_staged(WEIGHTS_FILE, staged);
        let upload = Upload { registry, principal, adapter, kind, place, announced: None };
        Complete { upload, claim, number, received, in_flight }.publish(once, shape).await
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

/// What a client has sent of an upload, after all of it was read and found to be what was announced.
async fn staged(direct: &dyn DirectUploads, kind: Kind, row: &DirectUploadRow) -> Result<Staged, RegistryError> {
    let id = &row.upload_id;
    if let Some(arrived) = direct.parts(id).await? {
        check_arrived(row, &arrived)?;
    }
    let size_bytes = direct.complete(id).await?;
    pass(CrashPoint::ObjectStaged);
    let wrong = |given: String| {
        let expected = format!("{} with {} bytes", row.digest, row.size_bytes);
        RegistryError::WrongBytes { file: WEIGHTS_FILE, expected, given }
    };
    // Before it is read: parts can be sent until then, of which the store may have been told more than was announced.
    if i64::try_from(size_bytes) != Ok(row.size_bytes) {
        return Err(wrong(format!("{size_bytes} bytes")));
    }
    let (entry, scanner) = look_through(direct.open(id).await?, kind.scanner()).await?;
    if entry.digest.to_string() != row.digest || entry.size_bytes != size_bytes {
        return Err(wrong(format!("{} with {} bytes", entry.digest, entry.size_bytes)));
    }
    Ok(Staged { blob: direct.completed(id, size_bytes), entry, scanner })
}

impl DirectUploadRow {
    /// How many parts it has.
    pub(crate) fn num_parts(&self) -> u64 {
        self.bytes().div_ceil(self.most_part_bytes())
    }

    /// The length of a part, if there is one of this number.
    fn bytes_of_part(&self, number: u64) -> Option<u64> {
        let before = number.checked_sub(1)?.checked_mul(self.most_part_bytes())?;
        let left = self.bytes().checked_sub(before).filter(|left| *left > 0)?;
        Some(left.min(self.most_part_bytes()))
    }

    fn bytes(&self) -> u64 {
        u64::try_from(self.size_bytes).unwrap_or_default()
    }

    fn most_part_bytes(&self) -> u64 {
        u64::try_from(self.part_bytes).unwrap_or_default().max(1)
    }
}

/// The parts that addresses are asked for, with the length that each must have.
fn check_parts(row: &DirectUploadRow, asked: Vec<PartRequest>) -> Result<Vec<DirectPart>, RegistryError> {
    let mut wrong = Vec::new();
    if !(1..=MAX_ADDRESSES).contains(&asked.len()) {
        wrong.push(Finding::field("parts", format!("1 to {MAX_ADDRESSES} parts, given {}", asked.len())));
    }
    let mut parts = Vec::new();
    for (index, part) in asked.into_iter().take(MAX_ADDRESSES).enumerate() {
        match (row.bytes_of_part(part.number), part.digest.parse::<Digest>()) {
            (Some(size_bytes), Ok(digest)) => {
                parts.push(DirectPart { number: part.number, size_bytes, sha256: *digest.as_bytes() });
            }
            (size_bytes, digest) => {
                if size_bytes.is_none() {
                    let detail = format!("1 to {}, given {}", row.num_parts(), part.number);
                    wrong.push(Finding::field(format!("parts[{index}].number"), detail));
                }
                if let Err(error) = digest {
                    wrong.push(Finding::field(format!("parts[{index}].digest"), error.to_string()));
                }
            }
        }
    }
    RegistryError::unless_valid(wrong)?;
    Ok(parts)
}

/// Whether every part has arrived with its length.
fn check_arrived(row: &DirectUploadRow, arrived: &[DirectPart]) -> Result<(), RegistryError> {
    let has = |number: u64| {
        let size = row.bytes_of_part(number);
        arrived.iter().any(|part| part.number == number && Some(part.size_bytes) == size)
    };
    let num_parts = row.num_parts();
    let missing: Vec<_> = (1..=num_parts).filter(|number| !has(*number)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let named: Vec<_> = missing.iter().take(MAX_NAMED).map(ToString::to_string).collect();
    let more = if missing.len() > MAX_NAMED { ", …" } else { "" };
    let first = format!("{}{more}", named.join(", "));
    Err(RegistryError::PartsMissing { num_parts, num_missing: missing.len() as u64, first })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(size_bytes: i64, part_bytes: i64) -> DirectUploadRow {
        DirectUploadRow {
            upload_id: String::new(),
            tenant_id: String::new(),
            adapter_id: String::new(),
            version: String::new(),
            digest: String::new(),
            size_bytes,
            part_bytes,
            expires_at_ms: 0,
        }
    }

    proptest! {
        #[test]
        fn the_parts_of_an_upload_have_its_bytes_and_each_but_the_last_is_full(size in 1..100_000_i64, part in 1..5_000_i64) {
            let row = row(size, part);
            let sizes: Vec<_> = (1..=row.num_parts()).map(|number| row.bytes_of_part(number).unwrap()).collect();
            prop_assert_eq!(sizes.iter().sum::<u64>(), size as u64);
            prop_assert!(sizes[..sizes.len() - 1].iter().all(|bytes| *bytes == part as u64));
            prop_assert_eq!(row.bytes_of_part(0), None);
            prop_assert_eq!(row.bytes_of_part(row.num_parts() + 1), None);
            prop_assert_eq!(row.bytes_of_part(u64::MAX), None);
        }

        #[test]
        fn whatever_arrived_is_enough_only_if_every_part_is_there_with_its_length(
            size in 1..200_i64,
            arrived in proptest::collection::vec((0..12_u64, 0..40_u64), 0..12)
        ) {
            let row = row(size, 20);
            let parts: Vec<_> = arrived
                .iter()
                .map(|(number, size_bytes)| DirectPart { number: *number, size_bytes: *size_bytes, sha256: [0; 32] })
                .collect();
            let is_whole = (1..=row.num_parts())
                .all(|number| arrived.contains(&(number, row.bytes_of_part(number).unwrap())));
            prop_assert_eq!(check_arrived(&row, &parts).is_ok(), is_whole);
        }
    }
}
