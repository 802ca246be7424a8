//! Adapters: a name, who may see it, and its versions.

mod create_adapter;
mod delete_adapter;
mod get_adapter;
mod list_adapters;
mod update_adapter;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::adapters::AdapterDetails;
use crate::db::moment;
use crate::words::Visibility;

pub(crate) use create_adapter::*;
pub(crate) use delete_adapter::*;
pub(crate) use get_adapter::*;
pub(crate) use list_adapters::*;
pub(crate) use update_adapter::*;

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

impl From<AdapterDetails> for Adapter {
    fn from(AdapterDetails { row, latest }: AdapterDetails) -> Self {
        Self {
            id: format!("{}/{}", row.owner, row.name),
            visibility: Visibility::from_column(&row.visibility),
            owner: row.owner,
            name: row.name,
            description: row.description,
            latest_version: latest.map(|latest| latest.to_string()),
            created_at: moment(row.created_at_ms),
            updated_at: moment(row.updated_at_ms),
        }
    }
}
