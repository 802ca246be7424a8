//! Fetching a safetensors model from the hub.

use std::path::{Path, PathBuf};

use hf_hub::api::sync::{ApiBuilder, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use super::safetensors::{INDEX_FILE, SINGLE_FILE, shards_of};
use super::{BaseError, FetchConfig, LoadProgress, OnProgress, Stage};

/// Files that every such model has.
const REQUIRED: [&str; 2] = ["config.json", "tokenizer.json"];
/// Files that say more, where they exist.
const OPTIONAL: [&str; 3] = ["tokenizer_config.json", "generation_config.json", "chat_template.jinja"];

/// Returns the folder with the repository's files, downloading those that are missing. A revision that was fetched
/// whole before is not asked for again, so that a start needs no network.
pub(super) fn fetch(
    repository: &str,
    revision: &str,
    config: &FetchConfig,
    on_progress: OnProgress<'_>,
) -> Result<PathBuf, BaseError> {
    let repo = Repo::with_revision(repository.to_owned(), RepoType::Model, revision.to_owned());
    let cache = Cache::new(config.cache_dir.join("models").join("hub"));
    let cached = cache.repo(repo.clone());
    if let Some(folder) = complete_folder(&cached)? {
        return Ok(folder);
    }
    let hub_error = |what: &str, error: &dyn std::fmt::Display| BaseError::Hub {
        repository: format!("{repository}@{revision}"),
        what: what.to_owned(),
        reason: error.to_string(),
    };
    let mut builder = ApiBuilder::from_cache(cache);
    if let Some(endpoint) = &config.hub_endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    let api = builder
        .with_token(config.hub_token.clone())
        .with_progress(false)
        .build()
        .map_err(|error| hub_error("access", &error))?
        .repo(repo);
    let info = api.info().map_err(|error| hub_error("the list of files", &error))?;
    let is_there = |name: &str| info.siblings.iter().any(|file| file.rfilename == name);
    for name in REQUIRED {
        if !is_there(name) {
            return Err(hub_error(name, &"the repository does not have it"));
        }
    }

    // The weights come last: a folder that has them all has everything.
    let weights = if is_there(INDEX_FILE) {
        let index = download(&api, &cached, INDEX_FILE, on_progress).map_err(|error| hub_error(INDEX_FILE, &error))?;
        shards_of(&index)?
    } else {
        vec![SINGLE_FILE.to_owned()]
    };
    let optional = OPTIONAL.into_iter().filter(|name| is_there(name));
    for name in REQUIRED.into_iter().chain(optional).chain(weights.iter().map(String::as_str)) {
        download(&api, &cached, name, on_progress).map_err(|error| hub_error(name, &error))?;
    }
    complete_folder(&cached)?.ok_or_else(|| hub_error("the files", &"they changed during the download; try again"))
}

/// The folder of the revision, if all required files and all weights are in it.
fn complete_folder(cached: &CacheRepo) -> Result<Option<PathBuf>, BaseError> {
    let Some(config) = cached.get(REQUIRED[0]) else { return Ok(None) };
    let weights = match cached.get(INDEX_FILE) {
        Some(index) => shards_of(&index)?,
        None => vec![SINGLE_FILE.to_owned()],
    };
    let complete =
        REQUIRED.into_iter().chain(weights.iter().map(String::as_str)).all(|name| cached.get(name).is_some());
    Ok(complete.then(|| config.parent().unwrap_or(Path::new(".")).to_owned()))
}

fn download(
    api: &ApiRepo,
    cached: &CacheRepo,
    name: &str,
    on_progress: OnProgress<'_>,
) -> Result<PathBuf, hf_hub::api::sync::ApiError> {
    if let Some(path) = cached.get(name) {
        return Ok(path);
    }
    let progress = LoadProgress { stage: Stage::Downloading, done_bytes: 0, total_bytes: None };
    api.download_with_progress(name, Reporter { progress, on_progress })
}

/// Turns the hub crate's calls into ours.
struct Reporter<'a> {
    progress: LoadProgress,
    on_progress: OnProgress<'a>,
}

impl hf_hub::api::Progress for Reporter<'_> {
    fn init(&mut self, size: usize, _filename: &str) {
        self.progress.total_bytes = Some(size as u64);
        (self.on_progress)(self.progress);
    }

    fn update(&mut self, size: usize) {
        self.progress.done_bytes += size as u64;
        (self.on_progress)(self.progress);
    }

    fn finish(&mut self) {}
}
