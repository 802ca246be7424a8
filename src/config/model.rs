//! The base model: the section `[model]` of the settings.

use serde::Deserialize;

/// The base model.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelConfig {
    /// A known name, a path or an id of the hub.
    pub(crate) source: String,
    /// What callers write in `model`; empty: the model's own name.
    pub(crate) id: String,
}
