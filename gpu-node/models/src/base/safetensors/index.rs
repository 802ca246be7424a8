//! Which files hold a model's weights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::text::read_json;
use crate::base::BaseError;

/// The weights of a model that has one file of them.
pub(in crate::base) const SINGLE_FILE: &str = "model.safetensors";
/// Says which file has which tensor, in a model that has several.
pub(in crate::base) const INDEX_FILE: &str = "model.safetensors.index.json";

/// The names of the weights files that an index names, sorted.
pub(in crate::base) fn shards_of(index: &Path) -> Result<Vec<String>, BaseError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let Index { weight_map } = read_json(index)?;
    let shards: BTreeSet<String> = weight_map.into_values().collect();
    // An index comes from the same stranger as the weights; it may name files of its own folder only.
    match shards.iter().find(|name| name.contains(['/', '\\']) || name.starts_with('.')) {
        Some(name) => Err(BaseError::malformed(index, format!("`{name}` is not the name of a file beside it"))),
        None if shards.is_empty() => Err(BaseError::malformed(index, "it names no weights")),
        None => Ok(shards.into_iter().collect()),
    }
}
