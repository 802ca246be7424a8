//! The control plane: tenants, keys, adapters. It has no ports; what it needs are a database and an object store.

use std::path::Path;

use anyhow::Context as _;
use souk_protocol::BaseModel;
use souk_registry::Registry;

use crate::config::Config;
use crate::private_file::PrivateFile;
use crate::terminal;

/// Opens the embedded shape below the data folder, for uploads that are made for `bases`.
///
/// # Errors
/// If the folder, the database or the pepper cannot be used.
pub(crate) async fn open(config: &Config, bases: Vec<BaseModel>) -> anyhow::Result<Registry> {
    Registry::open_embedded(config.registry(config.data.folder()?), bases).await.context("cannot open the registry")
}

/// Makes the first admin key where there is none, shows it, and writes it to `file` if one is given.
///
/// # Errors
/// If the key cannot be made, shown or written.
pub(crate) async fn show_first_key(registry: &Registry, file: Option<&Path>) -> anyhow::Result<()> {
    let Some(key) = registry.bootstrap().await.context("cannot make the first admin key")? else { return Ok(()) };
    let secret = key.expose();
    terminal::line("This is the admin key. It is shown once; keep it:")?;
    terminal::line(&format!("  {secret}"))?;
    if let Some(path) = file {
        PrivateFile::open(path)?.write(secret)?;
    }
    Ok(())
}
