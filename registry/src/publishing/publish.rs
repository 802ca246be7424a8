//! From a checked artefact to a visible version.

use semver::Version;
use serde::Serialize;
use serde_json::json;
use souk_protocol::{Digest, Principal};
use uuid::Uuid;

use super::in_flight::InFlight;
use super::kind::Artefact;
use crate::Registry;
use crate::adapters::adapter_not_found;
use crate::crash_points::{CrashPoint, pass};
use crate::db::{
    AdapterRow, FileRow, VersionRow, adapters, begin_write_of, blobs, now_ms, taken_down_content, tenants,
    version_files, versions,
};
use crate::error::RegistryError;
use crate::events::Kind;
use crate::idempotency::Once;
use crate::versions::{VersionDetails, note};
use crate::words::VersionState;

/// What is published, and who does it.
pub(super) struct Release<'a> {
    pub(super) registry: &'a Registry,
    pub(super) principal: &'a Principal,
    pub(super) adapter: &'a AdapterRow,
    pub(super) number: &'a Version,
}

/// Puts the blobs in place, then makes the version visible: all rows or none, and only while the upload's lease was not
/// ended.
pub(super) async fn publish<A: Serialize>(
    release: Release<'_>,
    artefact: Artefact,
    in_flight: &mut InFlight,
    once: &Once,
    shape: impl FnOnce(VersionDetails) -> A,
) -> Result<VersionDetails, RegistryError> {
    let Release { registry, principal, adapter, number } = release;
    // Before any of it is put in place.
    let content = content_of(&artefact);
    refuse_if(taken_down_content::any_of(&registry.db, &content).await?)?;
    let digests: Vec<_> = artefact.files.iter().map(|(_, entry)| entry.digest.to_string()).collect();
    in_flight.count_on(unique(digests)).await?;
    let version = rows_of(adapter, number, &artefact);
    let (staged, staged_digest) = artefact.staged;
    pass(CrashPoint::ObjectStaged);
    staged.commit(&staged_digest).await?;
    pass(CrashPoint::ObjectPlaced);
    for bytes in artefact.contents {
        let mut blob = registry.objects.stage(in_flight.id()).await?;
        blob.write(&bytes).await?;
        pass(CrashPoint::ObjectStaged);
        blob.commit(&Digest::of(&bytes)).await?;
        pass(CrashPoint::ObjectPlaced);
    }
    let transaction = begin_write_of(&registry.db, &adapter.tenant()).await?;
    // This also locks the adapter's row, so that it cannot be deleted before the version is in.
    if !adapters::touch(&transaction, &adapter.id).await? {
        return Err(adapter_not_found(&adapter.owner, &adapter.name));
    }
    let shadowed = registry.count_version(&transaction, principal).await?;
    // A take-down of the content locks this row too: either it comes first and is found, or it finds this version.
    blobs::lock(&transaction, &staged_digest.to_string()).await?;
    refuse_if(taken_down_content::any_of(&transaction, &content).await?)?;
    in_flight.end_in(&transaction).await?;
    versions::insert(&transaction, version.row.clone()).await?;
    version_files::insert_all(&transaction, &version.files).await?;
    adapters::relist(&transaction, [adapter.id.as_str()]).await?;
    let size_bytes = version.files.iter().map(|file| file.size_bytes).sum();
    tenants::add_stored(&transaction, &adapter.tenant(), size_bytes).await?;
    let mut facts = json!({ "base_digest": version.row.base_digest, "rank": version.row.rank });
    if !shadowed.is_empty() {
        // Levels whose limit on versions would have refused it.
        facts["limits_shadowed"] =
            json!(shadowed.iter().map(|level| format!("{level}.versions_per_day")).collect::<Vec<_>>());
    }
    note(&transaction, principal, Kind::VersionReady, &[(adapter, &version.row)], facts).await?;
    once.keep_in(&transaction, || shape(version.clone())).await?;
    transaction.commit().await?;
    let (name, digest) = (&version.adapter, &version.row.digest);
    tracing::info!(
        adapter.owner = adapter.owner,
        adapter.name = adapter.name,
        version.number = %number,
        version.digest = digest,
        "Published {name}@{number}"
    );
    Ok(version)
}

/// Ends the publishing of content that was taken down.
fn refuse_if(taken_down: Option<taken_down_content::Model>) -> Result<(), RegistryError> {
    taken_down.map_or(Ok(()), |row| Err(RegistryError::ContentTakenDown { digest: row.digest, reason: row.reason }))
}

/// What a take-down binds to: the manifest, and the weights, whatever the files beside them say.
fn content_of(artefact: &Artefact) -> [String; 2] {
    [artefact.digest.to_string(), artefact.staged.1.to_string()]
}

fn rows_of(adapter: &AdapterRow, number: &Version, artefact: &Artefact) -> VersionDetails {
    let now_ms = now_ms();
    let row = VersionRow {
        id: format!("ver_{}", Uuid::now_v7().simple()),
        adapter_id: adapter.id.clone(),
        version: number.to_string(),
        state: VersionState::Ready.as_str().to_owned(),
        digest: artefact.digest.to_string(),
        base_digest: artefact.base.to_string(),
        rank: i32::try_from(artefact.rank).expect("ranks are at most MAX_RANK"),
        report: serde_json::to_string(&artefact.report).ok(),
        state_reason: None,
        created_at_ms: now_ms,
        state_changed_at_ms: now_ms,
        weights_digest: Some(artefact.staged.1.to_string()),
    };
    let files = artefact.files.iter().map(|(name, entry)| FileRow {
        version_id: row.id.clone(),
        name: (*name).to_owned(),
        digest: entry.digest.to_string(),
        size_bytes: i64::try_from(entry.size_bytes).expect("files are within the upload limit"),
    });
    let files = files.collect();
    VersionDetails::new(adapter, row, files, Vec::new())
}

/// Two files of a version may have the same content.
fn unique(mut digests: Vec<String>) -> Vec<String> {
    digests.sort_unstable();
    digests.dedup();
    digests
}
