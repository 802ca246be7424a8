//! Versions: immutable once ready.

mod delete_version;
mod download_file;
mod get_version;
mod list_versions;
mod take_down_version;
mod upload_version;
mod yank_version;

use std::collections::HashMap;

use sea_orm::{ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::Registry;
use crate::catalog::VersionState;
use crate::db::entities::{adapter, tag, version, version_file};
use crate::db::{moment, now_ms};
use crate::error::RegistryError;

pub(crate) use delete_version::*;
pub(crate) use download_file::*;
pub(crate) use get_version::*;
pub(crate) use list_versions::*;
pub(crate) use take_down_version::*;
pub(crate) use upload_version::*;
pub(crate) use yank_version::*;

/// Which version.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct VersionPath {
    /// The tenant that owns the adapter.
    owner: String,
    /// The adapter's name.
    name: String,
    /// The version's number.
    version: String,
}

/// A version of an adapter.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AdapterVersion {
    /// `owner/name@version`: what a caller writes in `model`.
    id: String,
    /// The number.
    version: String,
    /// Where it stands: `ready`, `yanked` or `taken_down`.
    state: VersionState,
    /// Why the operator took it down; null otherwise.
    state_reason: Option<String>,
    /// SHA-256 of its manifest: its identity.
    digest: String,
    /// The base model that it is for.
    base_digest: String,
    /// The highest rank among its pairs; 0 if it only replaces norms.
    rank: i32,
    /// Its files, the manifest included.
    files: Vec<VersionFile>,
    /// The tags that point at it.
    tags: Vec<String>,
    /// When it was published.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// A file of a version.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VersionFile {
    /// Its name.
    name: String,
    /// SHA-256 of its bytes.
    digest: String,
    /// Its length.
    size_bytes: i64,
}

/// Versions of one adapter as the API shows them, in the given order.
async fn shown(
    registry: &Registry,
    adapter: &adapter::Model,
    rows: Vec<version::Model>,
) -> Result<Vec<AdapterVersion>, RegistryError> {
    let ids: Vec<_> = rows.iter().map(|row| row.id.clone()).collect();
    let mut files_of = HashMap::<String, Vec<VersionFile>>::new();
    let of_rows = version_file::Entity::find().filter(version_file::Column::VersionId.is_in(&ids));
    for file in of_rows.all(&registry.db).await? {
        let shown = VersionFile { name: file.name, digest: file.digest, size_bytes: file.size_bytes };
        files_of.entry(file.version_id).or_default().push(shown);
    }
    let mut tags_of = HashMap::<String, Vec<String>>::new();
    for tag in tag::Entity::find().filter(tag::Column::VersionId.is_in(&ids)).all(&registry.db).await? {
        tags_of.entry(tag.version_id).or_default().push(tag.tag);
    }
    let show = |row: version::Model| {
        let mut files = files_of.remove(&row.id).unwrap_or_default();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let mut tags = tags_of.remove(&row.id).unwrap_or_default();
        tags.sort();
        AdapterVersion {
            id: format!("{}/{}@{}", adapter.owner, adapter.name, row.version),
            state: row.state(),
            state_reason: row.state_reason,
            version: row.version,
            digest: row.digest,
            base_digest: row.base_digest,
            rank: row.rank,
            files,
            tags,
            created_at: moment(row.created_at_ms),
        }
    };
    Ok(rows.into_iter().map(show).collect())
}

/// One version as the API shows it.
async fn shown_one(
    registry: &Registry,
    adapter: &adapter::Model,
    row: version::Model,
) -> Result<AdapterVersion, RegistryError> {
    let mut shown = shown(registry, adapter, vec![row]).await?;
    Ok(shown.pop().expect("one row makes one answer"))
}

/// Puts a version in another state.
async fn set_state(
    connection: &impl ConnectionTrait,
    version: &version::Model,
    state: VersionState,
    reason: Option<String>,
) -> Result<(), RegistryError> {
    version::Entity::update_many()
        .col_expr(version::Column::State, state.as_str().into())
        .col_expr(version::Column::StateReason, reason.into())
        .col_expr(version::Column::StateChangedAtMs, now_ms().into())
        .filter(version::Column::Id.eq(&version.id))
        .exec(connection)
        .await?;
    Ok(())
}
