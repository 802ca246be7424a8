//! `souk push`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::server::ServerArgs;

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Folder with adapter_config.json, adapter_model.safetensors and, optionally, README.md and chat_template.jinja or
    /// tokenizer_config.json.
    pub(crate) folder: PathBuf,
    /// owner/name@version, for example acme/sst2@1.0.0. The adapter is created if it does not exist.
    pub(crate) reference: String,
    /// Let everybody use the adapter when it is created here. Default: only your tenant.
    #[arg(long)]
    pub(crate) public: bool,
    /// The base model that the adapter was trained on, where adapter_config.json names a folder that says nothing.
    #[arg(long, value_name = "NAME")]
    pub(crate) base: Option<String>,
    /// Publish even if the adapter changes nothing, for example because every B is zero.
    #[arg(long)]
    pub(crate) allow_no_effect: bool,
    /// One line about the adapter, used when it is created here.
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) description: String,
    /// Send the weights straight to the object store, in parts: where the server's store is a bucket, an upload that was
    /// interrupted goes on where it was when the same command is given again.
    #[arg(long, value_enum, default_value_t = Direct::Auto, value_name = "WHEN")]
    pub(crate) direct: Direct,
    /// End an upload of the same number that was interrupted, and begin anew.
    #[arg(long)]
    pub(crate) start_over: bool,
}

/// When weights go straight to the object store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Direct {
    /// If they have 64 MiB or more, and the store takes them and can be reached from here; else through the server.
    Auto,
    /// Whatever they have.
    Always,
    /// They go through the server.
    Never,
}
