//! `souk models`.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// List the base models known by name and whether they are in the cache.
    List {
        /// Print the list as JSON: for each model its `id`, its `size_bytes` and whether it `is_cached`.
        #[arg(long)]
        json: bool,
    },
    /// Fetch a base model into the cache.
    Pull {
        /// A known name, or hf:owner/repo[@revision].
        source: String,
    },
    /// Fetch a base model if need be and write what a registry has to know of it, without its weights.
    Describe {
        /// A known name, a .gguf path, a safetensors folder or hf:owner/repo[@revision].
        source: String,
        /// Where to write it. Default: standard output.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}
