//! `souk models`: the base models known by name, fetching one into the cache, and describing one for registries.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;
use souk_models::base::{self, BaseSource, FetchConfig, KNOWN_MODELS, KnownModel, ModelFiles};

use crate::cli::ModelsCommand;
use crate::config::Config;
use crate::terminal::{self, ProgressBars};

pub(crate) fn run(config: &Config, command: ModelsCommand) -> anyhow::Result<ExitCode> {
    let cache_dir = config.data.cache_folder()?;
    match command {
        ModelsCommand::List { json } => {
            let is_cached =
                |known: &KnownModel| cache_dir.join("models").join(known.id).join(known.file_name()).is_file();
            if json {
                let model = |known: &KnownModel| json!({ "id": known.id, "size_bytes": known.size_bytes, "is_cached": is_cached(known) });
                terminal::json(&KNOWN_MODELS.iter().map(model).collect::<Vec<_>>())?;
            } else {
                let row = |known: &KnownModel| {
                    let state = if is_cached(known) { "in the cache" } else { "not fetched" };
                    vec![known.id.to_owned(), format!("{} MB", known.size_bytes / 1_000_000), state.to_owned()]
                };
                terminal::table(&["MODEL", "SIZE", "STATE"], &KNOWN_MODELS.iter().map(row).collect::<Vec<_>>())?;
            }
        }
        ModelsCommand::Pull { source } => {
            let parsed: BaseSource = source.parse().context("that is not a base model")?;
            let mut bars = ProgressBars::new(&source);
            let fetched = base::fetch(&parsed, &FetchConfig::new(cache_dir), &mut |progress| bars.show(progress))
                .with_context(|| format!("cannot fetch {source}"))?;
            bars.clear();
            let (ModelFiles::Gguf(path) | ModelFiles::Folder(path)) = fetched.files;
            terminal::line(&path.display().to_string())?;
        }
        ModelsCommand::Describe { source, file } => describe(config, &source, file.as_deref())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a base model's description as JSON. Its weights are read for their digest, and not written.
fn describe(config: &Config, source: &str, file: Option<&Path>) -> anyhow::Result<()> {
    let parsed: BaseSource = source.parse().context("that is not a base model")?;
    let mut bars = ProgressBars::new(source);
    let loaded =
        base::load(&parsed, &FetchConfig::new(config.data.cache_folder()?), &mut |progress| bars.show(progress));
    bars.clear();
    let mut model = loaded.with_context(|| format!("cannot read {source}"))?.model;
    if !config.model.id.is_empty() {
        model.id.clone_from(&config.model.id);
    }
    let text = serde_json::to_string(&model).context("the description is no JSON")?;
    match file {
        Some(path) => std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?,
        None => terminal::line(&text)?,
    }
    Ok(())
}
