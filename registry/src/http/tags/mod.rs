//! Tags: mutable names for versions, such as `prod`.

mod delete_tag;
mod get_tag;
mod list_tags;
mod put_tag;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::db::moment;
use crate::tags::TagDetails;

pub(crate) use delete_tag::*;
pub(crate) use get_tag::*;
pub(crate) use list_tags::*;
pub(crate) use put_tag::*;

/// Which tag.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct TagPath {
    /// The tenant that owns the adapter.
    owner: String,
    /// The adapter's name.
    name: String,
    /// The tag.
    tag: String,
}

/// A tag.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Tag {
    /// `owner/name:tag`: what a caller writes in `model`.
    id: String,
    /// The tag.
    tag: String,
    /// The version that it points at.
    version: String,
    /// That version's digest.
    digest: String,
    /// When it was last pointed at a version.
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

impl From<TagDetails> for Tag {
    fn from(TagDetails { adapter, row, version }: TagDetails) -> Self {
        Self {
            id: format!("{adapter}:{}", row.tag),
            tag: row.tag,
            version: version.version,
            digest: version.digest,
            updated_at: moment(row.updated_at_ms),
        }
    }
}
