//! Tags: mutable names for versions, such as `prod`.

mod delete_tag;
mod get_tag;
mod list_tags;
mod put_tag;

use sea_orm::EntityTrait as _;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::Registry;
use crate::db::entities::{adapter, tag, version};
use crate::db::moment;
use crate::error::RegistryError;

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

impl Tag {
    fn new(adapter: &adapter::Model, tag: tag::Model, version: version::Model) -> Self {
        Self {
            id: format!("{}/{}:{}", adapter.owner, adapter.name, tag.tag),
            tag: tag.tag,
            version: version.version,
            digest: version.digest,
            updated_at: moment(tag.updated_at_ms),
        }
    }
}

async fn existing_tag(registry: &Registry, adapter: &adapter::Model, tag: &str) -> Result<tag::Model, RegistryError> {
    let found = tag::Entity::find_by_id((adapter.id.clone(), tag.to_owned())).one(&registry.db).await?;
    let name = || format!("{}/{}:{tag}", adapter.owner, adapter.name);
    found.ok_or_else(|| RegistryError::NotFound { what: "tag", name: name() })
}
