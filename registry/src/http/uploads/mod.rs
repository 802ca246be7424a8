//! Uploads of which the weights go straight to the object store.

mod abort_upload;
mod address_parts;
mod begin_upload;
mod complete_upload;
mod get_upload;
mod list_uploads;

use serde::{Deserialize, Serialize};
use souk_protocol::Digest;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::db::moment;
use crate::objects::DirectPart;
use crate::publishing::{DirectDetails, Progress};

pub(crate) use abort_upload::*;
pub(crate) use address_parts::*;
pub(crate) use begin_upload::*;
pub(crate) use complete_upload::*;
pub(crate) use get_upload::*;
pub(crate) use list_uploads::*;

/// Which upload.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct UploadPath {
    /// The tenant that owns the adapter.
    owner: String,
    /// The adapter's name.
    name: String,
    /// The upload's id.
    upload: String,
}

/// An upload of which the weights go straight to the object store.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DirectUpload {
    /// Its id.
    #[schema(example = "upl_0193d5a1c0de7a3f8b1c2d3e4f506172")]
    id: String,
    /// The number of the version that it is to become, which is reserved for it.
    #[schema(example = "1.0.0")]
    version: String,
    /// SHA-256 of `adapter_model.safetensors`, as announced.
    #[schema(example = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")]
    digest: String,
    /// Its length.
    #[schema(example = 335_544_320)]
    size_bytes: i64,
    /// Bytes of every part but the last, which has the rest.
    #[schema(example = 8_388_608)]
    part_bytes: i64,
    /// How many parts there are.
    #[schema(example = 40)]
    num_parts: u64,
    /// Until when it can be completed.
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
}

/// An upload and what has arrived of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UploadStatus {
    #[serde(flatten)]
    upload: DirectUpload,
    /// Whether all bytes are one object by now, so that it can only be completed or ended.
    is_whole: bool,
    /// The parts that have arrived, by number; empty once it is whole.
    parts: Vec<ArrivedPart>,
}

/// A part that has arrived.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ArrivedPart {
    /// From 1.
    #[schema(example = 1)]
    number: u64,
    /// Its length.
    #[schema(example = 8_388_608)]
    size_bytes: u64,
    /// SHA-256 of its bytes.
    #[schema(example = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")]
    digest: String,
}

impl From<DirectDetails> for DirectUpload {
    fn from(DirectDetails { row, .. }: DirectDetails) -> Self {
        Self {
            num_parts: row.num_parts(),
            id: row.upload_id,
            version: row.version,
            digest: row.digest,
            size_bytes: row.size_bytes,
            part_bytes: row.part_bytes,
            expires_at: moment(row.expires_at_ms),
        }
    }
}

impl From<DirectDetails> for UploadStatus {
    fn from(details: DirectDetails) -> Self {
        let parts = match &details.progress {
            Some(Progress::Parts(parts)) => parts.iter().map(ArrivedPart::from).collect(),
            Some(Progress::Whole) | None => Vec::new(),
        };
        Self { is_whole: matches!(details.progress, Some(Progress::Whole)), parts, upload: details.into() }
    }
}

impl From<&DirectPart> for ArrivedPart {
    fn from(part: &DirectPart) -> Self {
        let digest = Digest::from_bytes(part.sha256).to_string();
        Self { number: part.number, size_bytes: part.size_bytes, digest }
    }
}
