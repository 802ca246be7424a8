//! Adapters: a name, who may see it, and its versions.

mod create_adapter;
mod delete_adapter;
mod get_adapter;
mod list_adapters;
mod update_adapter;

use std::collections::HashMap;

use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};
use semver::Version;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::Registry;
use crate::catalog::{VersionState, Visibility, version_of};
use crate::db::entities::{adapter, version};
use crate::db::moment;
use crate::error::{Finding, RegistryError};

pub(crate) use create_adapter::*;
pub(crate) use delete_adapter::*;
pub(crate) use get_adapter::*;
pub(crate) use list_adapters::*;
pub(crate) use update_adapter::*;

/// Longest description.
const MAX_DESCRIPTION_CHARS: usize = 4000;

/// Which adapter.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct AdapterPath {
    /// The tenant that owns it.
    pub(crate) owner: String,
    /// Its name.
    pub(crate) name: String,
}

/// An adapter.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Adapter {
    /// `owner/name`: what a caller writes in `model`.
    id: String,
    /// The tenant that owns it.
    owner: String,
    /// Its name.
    name: String,
    /// Who may see and call it.
    visibility: Visibility,
    /// What it is for.
    description: String,
    /// The version that `owner/name` means: the highest ready one that is not a pre-release. Null if there is none.
    latest_version: Option<String>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// When its description, visibility or versions last changed.
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

impl Adapter {
    fn new(row: adapter::Model, latest: Option<&Version>) -> Self {
        Self {
            id: format!("{}/{}", row.owner, row.name),
            visibility: Visibility::from_column(&row.visibility),
            owner: row.owner,
            name: row.name,
            description: row.description,
            latest_version: latest.map(ToString::to_string),
            created_at: moment(row.created_at_ms),
            updated_at: moment(row.updated_at_ms),
        }
    }
}

/// The latest version of each of the adapters that has one.
async fn latest_versions(
    registry: &Registry,
    adapters: &[adapter::Model],
) -> Result<HashMap<String, Version>, RegistryError> {
    let ready = version::Entity::find()
        .filter(version::Column::AdapterId.is_in(adapters.iter().map(|adapter| adapter.id.as_str())))
        .filter(version::Column::State.eq(VersionState::Ready.as_str()))
        .all(&registry.db)
        .await?;
    let mut latest = HashMap::<String, Version>::new();
    for row in ready {
        let version = version_of(&row);
        if version.pre.is_empty() && latest.get(&row.adapter_id).is_none_or(|best| *best < version) {
            latest.insert(row.adapter_id, version);
        }
    }
    Ok(latest)
}

/// An adapter as the API shows it.
async fn shown(registry: &Registry, row: adapter::Model) -> Result<Adapter, RegistryError> {
    let latest = latest_versions(registry, std::slice::from_ref(&row)).await?;
    let latest = latest.get(&row.id);
    Ok(Adapter::new(row, latest))
}

fn check_description(description: &str) -> Option<Finding> {
    let num_chars = description.chars().count();
    let detail = format!("at most {MAX_DESCRIPTION_CHARS} characters, given {num_chars}");
    (num_chars > MAX_DESCRIPTION_CHARS).then(|| Finding::field("description", detail))
}
