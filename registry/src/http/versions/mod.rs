//! Versions: immutable once ready.

mod delete_version;
mod download_file;
pub(crate) mod form;
mod get_version;
mod list_versions;
mod take_down_version;
mod upload_version;
mod yank_version;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::db::{FileRow, moment};
use crate::report::VersionReport;
use crate::versions::VersionDetails;
use crate::words::VersionState;

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
    /// What was found when it was published; null for versions that are older than reports.
    report: Option<VersionReport>,
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

impl From<VersionDetails> for AdapterVersion {
    fn from(VersionDetails { adapter, row, files, tags }: VersionDetails) -> Self {
        Self {
            id: format!("{adapter}@{}", row.version),
            state: row.state(),
            version: row.version,
            state_reason: row.state_reason,
            digest: row.digest,
            base_digest: row.base_digest,
            rank: row.rank,
            report: row.report.as_deref().and_then(|report| serde_json::from_str(report).ok()),
            files: files.into_iter().map(VersionFile::from).collect(),
            tags,
            created_at: moment(row.created_at_ms),
        }
    }
}

impl From<FileRow> for VersionFile {
    fn from(row: FileRow) -> Self {
        Self { name: row.name, digest: row.digest, size_bytes: row.size_bytes }
    }
}
