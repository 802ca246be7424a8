//! Where data is kept: the section `[data]` of the settings, and the folders that follow from it.

use std::path::PathBuf;

use anyhow::Context as _;
use serde::Deserialize;

/// Where data is kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataConfig {
    /// Folder of what must not be lost; empty: see [`folder`](Self::folder).
    pub(crate) dir: String,
    /// Folder of what can be fetched again; empty: see [`cache_folder`](Self::cache_folder).
    pub(crate) cache_dir: String,
}

impl DataConfig {
    /// The data folder after resolving the default.
    ///
    /// # Errors
    /// If none is set and there is no home folder.
    pub(crate) fn folder(&self) -> anyhow::Result<PathBuf> {
        found(&self.dir, "XDG_DATA_HOME", ".local/share", "data.dir")
    }

    /// Where packed adapters are kept between runs: below the data folder. Several processes may share it.
    ///
    /// # Errors
    /// If there is no data folder.
    pub(crate) fn packed_adapters(&self) -> anyhow::Result<PathBuf> {
        Ok(self.folder()?.join("packed"))
    }

    /// Where usage waits until it is in the database: below the data folder, which several processes may share.
    ///
    /// # Errors
    /// If there is no data folder.
    pub(crate) fn journal(&self) -> anyhow::Result<PathBuf> {
        Ok(self.folder()?.join("journal"))
    }

    /// The cache folder after resolving the default.
    ///
    /// # Errors
    /// If none is set and there is no home folder.
    pub(crate) fn cache_folder(&self) -> anyhow::Result<PathBuf> {
        found(&self.cache_dir, "XDG_CACHE_HOME", ".cache", "data.cache_dir")
    }
}

/// The folder that a setting names, or the one of its kind below the user's home.
fn found(setting: &str, variable: &str, below_home: &str, name: &str) -> anyhow::Result<PathBuf> {
    if !setting.is_empty() {
        return Ok(PathBuf::from(setting));
    }
    if let Some(base) = std::env::var_os(variable).filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(base).join("souk"));
    }
    let home = std::env::var_os("HOME").with_context(|| format!("there is no HOME; set {name}"))?;
    Ok(PathBuf::from(home).join(below_home).join("souk"))
}
