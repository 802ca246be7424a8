//! From staged bytes to a visible version.

use sea_orm::{ActiveModelTrait as _, ColumnTrait as _, EntityTrait as _, QueryFilter as _, Set};
use semver::Version;
use souk_protocol::manifest::{CARD_FILE, CONFIG_FILE, WEIGHTS_FILE};
use souk_protocol::{AdapterManifest, Digest, FileEntry};
use uuid::Uuid;

use super::in_flight::InFlight;
use super::judge::judge;
use super::receive::Received;
use crate::Registry;
use crate::catalog::VersionState;
use crate::db::entities::{adapter, version, version_file};
use crate::db::{begin_write, now_ms};
use crate::error::RegistryError;

/// Name of the manifest among a version's files.
const MANIFEST_FILE: &str = "manifest.json";

/// What becomes the rows of a version.
struct Draft {
    number: Version,
    digest: Digest,
    base: Digest,
    rank: usize,
    files: Vec<(&'static str, FileEntry)>,
}

pub(super) async fn judge_and_publish(
    registry: &Registry,
    adapter: &adapter::Model,
    number: &Version,
    received: Received,
    in_flight: &InFlight,
) -> Result<version::Model, RegistryError> {
    in_flight.validating().await?;
    let Received { config, weights, card } = received;
    // Off the async threads: a configuration full of patterns takes a while to match.
    let (bases, intake) = (registry.bases.clone(), weights.intake);
    let judging = tokio::task::spawn_blocking(move || {
        let (plan, base) = judge(&config, intake, &bases)?;
        let rank = plan.pairs.iter().map(|pair| pair.rank).max().unwrap_or(0);
        Ok::<_, RegistryError>((config, base.digest, rank))
    });
    let (config, base, rank) = judging.await.map_err(std::io::Error::other)??;

    let manifest = AdapterManifest::new(base, entry_of(&config), weights.entry.clone());
    let manifest_bytes = manifest.canonical_bytes();
    let mut files = vec![
        (CONFIG_FILE, manifest.config.clone()),
        (WEIGHTS_FILE, manifest.weights.clone()),
        (MANIFEST_FILE, entry_of(&manifest_bytes)),
    ];
    files.extend(card.as_deref().map(|card| (CARD_FILE, entry_of(card))));
    let digests: Vec<_> = files.iter().map(|(_, entry)| entry.digest.to_string()).collect();

    let published = async {
        let _blobs_stay = registry.blob_references.read().await;
        weights.blob.commit(&weights.entry.digest).await?;
        for bytes in [Some(&config), Some(&manifest_bytes), card.as_ref()].into_iter().flatten() {
            put(registry, bytes).await?;
        }
        let draft = Draft { number: number.clone(), digest: manifest.digest(), base, rank, files };
        insert_rows(registry, adapter, draft, in_flight).await
    }
    .await;
    if published.is_err() {
        registry.release_blobs(&digests).await;
    }
    published
}

fn entry_of(bytes: &[u8]) -> FileEntry {
    FileEntry { digest: Digest::of(bytes), size_bytes: bytes.len() as u64 }
}

async fn put(registry: &Registry, bytes: &[u8]) -> Result<(), RegistryError> {
    let mut blob = registry.objects.stage().await?;
    blob.write(bytes).await?;
    Ok(blob.commit(&Digest::of(bytes)).await?)
}

/// Makes the version visible: all rows or none.
async fn insert_rows(
    registry: &Registry,
    adapter: &adapter::Model,
    draft: Draft,
    in_flight: &InFlight,
) -> Result<version::Model, RegistryError> {
    let now_ms = now_ms();
    let transaction = begin_write(&registry.db).await?;
    // This also locks the adapter's row, so that it cannot be deleted before the version is in.
    let touched = adapter::Entity::update_many()
        .col_expr(adapter::Column::UpdatedAtMs, now_ms.into())
        .filter(adapter::Column::Id.eq(&adapter.id))
        .filter(adapter::Column::DeletedAtMs.is_null())
        .exec(&transaction)
        .await?;
    if touched.rows_affected == 0 {
        return Err(RegistryError::NotFound { what: "adapter", name: format!("{}/{}", adapter.owner, adapter.name) });
    }
    let row = version::ActiveModel {
        id: Set(format!("ver_{}", Uuid::now_v7().simple())),
        adapter_id: Set(adapter.id.clone()),
        version: Set(draft.number.to_string()),
        state: Set(VersionState::Ready.as_str().to_owned()),
        digest: Set(draft.digest.to_string()),
        base_digest: Set(draft.base.to_string()),
        rank: Set(i32::try_from(draft.rank).expect("ranks are at most MAX_RANK")),
        state_reason: Set(None),
        created_at_ms: Set(now_ms),
        state_changed_at_ms: Set(now_ms),
    };
    let version = row.insert(&transaction).await?;
    let files = draft.files.into_iter().map(|(name, entry)| version_file::ActiveModel {
        version_id: Set(version.id.clone()),
        name: Set(name.to_owned()),
        digest: Set(entry.digest.to_string()),
        size_bytes: Set(i64::try_from(entry.size_bytes).expect("files are within the upload limit")),
    });
    version_file::Entity::insert_many(files).exec(&transaction).await?;
    in_flight.end_in(&transaction).await?;
    transaction.commit().await?;
    tracing::info!(
        adapter.owner = adapter.owner,
        adapter.name = adapter.name,
        version.number = version.version,
        version.digest = version.digest,
        "Published a version"
    );
    Ok(version)
}
