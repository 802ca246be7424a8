//! Where the base model comes from and how it is read.
//!
//! Begin with [`load`]: it turns a [`BaseSource`] (a configured text) into files with [`fetch()`], and files into a
//! [`LoadedBase`]: the model's description for everybody and its weights for the runner. Everything inside is in
//! Hugging Face row order, whatever the file's order was, so that adapters need no translation.
//!
//! Files are read one tensor at a time; the weights stay in the type that the file has.

mod digests;
mod error;
mod fetch;
mod files;
mod gguf;
mod hub;
mod loaded;
mod lock;
mod package;
mod progress;
mod safetensors;
mod source;
mod tensors;
mod weights;

pub use error::BaseError;
pub use fetch::fetch;
pub use files::{FetchConfig, FetchedBase, ModelFiles};
pub use loaded::LoadedBase;
pub use progress::{LoadProgress, OnProgress, Stage};
pub use source::{BaseSource, KNOWN_MODELS, KnownModel, ModelNames};
pub use weights::{LayerWeights, LlamaWeights};

/// Fetches `source` if it is not in the cache yet, and reads it. Blocks; call it from a thread that may.
///
/// # Errors
/// [`BaseError`] if the model cannot be fetched, is malformed, or is not a supported llama model.
pub fn load(source: &BaseSource, config: &FetchConfig, on_progress: OnProgress<'_>) -> Result<LoadedBase, BaseError> {
    let fetched = fetch(source, config, on_progress)?;
    read(&fetched, config, on_progress)
}

/// Reads a base model whose files are present.
///
/// # Errors
/// [`BaseError`] if the files are malformed or are not a supported llama model.
pub fn read(fetched: &FetchedBase, config: &FetchConfig, on_progress: OnProgress<'_>) -> Result<LoadedBase, BaseError> {
    match &fetched.files {
        ModelFiles::Gguf(path) => gguf::read(path, fetched, config, on_progress),
        ModelFiles::Folder(folder) => safetensors::read(folder, fetched, config, on_progress),
    }
}
