//! What starts the roles of a server: `souk serve`, `souk registry`, `souk gateway` and `souk node`.

use std::path::PathBuf;

use clap::Args;

use crate::config::Config;

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) process: ProcessFlags,
    #[command(flatten)]
    pub(crate) model: ModelFlags,
    /// Where to write the admin key of the first start (mode 0600), beside printing it.
    #[arg(long, value_name = "FILE")]
    pub(crate) admin_key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RegistryArgs {
    #[command(flatten)]
    pub(crate) process: ProcessFlags,
    /// File of a base model that uploads may be made for, as `souk models describe` writes it; give the flag once for each.
    #[arg(long = "base", value_name = "FILE")]
    pub(crate) bases: Vec<PathBuf>,
    /// Where to write the admin key of the first start (mode 0600), beside printing it.
    #[arg(long, value_name = "FILE")]
    pub(crate) admin_key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    #[command(flatten)]
    pub(crate) process: ProcessFlags,
    #[command(flatten)]
    pub(crate) model: ModelFlags,
    #[command(flatten)]
    pub(crate) registries: RegistriesFlag,
    /// File of a base model that nodes apart serve, as `souk models describe` writes it; give the flag once for each.
    #[arg(long = "base", value_name = "FILE")]
    pub(crate) bases: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    #[command(flatten)]
    pub(crate) process: ProcessFlags,
    #[command(flatten)]
    pub(crate) model: ModelFlags,
    #[command(flatten)]
    pub(crate) registries: RegistriesFlag,
    /// What the node is called, like no other that runs: 1 to 64 of a-z, 0-9, `-`, `_`, `.`.
    #[arg(long, value_name = "NAME")]
    pub(crate) id: Option<String>,
}

/// Flags of every role.
#[derive(Debug, Args)]
pub(crate) struct ProcessFlags {
    /// Address to listen on; port 0 takes a free one. Bounds who can reach the process: 127.0.0.1 is this machine only. At a
    /// node's there are /health, /ready and /metrics.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Folder of what is kept: a registry's database and adapter files, a gateway's journal, a node's packed adapters.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

/// Flags of roles that run a model.
#[derive(Debug, Args)]
pub(crate) struct ModelFlags {
    /// Base model: a known name, a .gguf path, a safetensors folder or hf:owner/repo.
    #[arg(long, value_name = "SOURCE")]
    model: Option<String>,
    /// Compute threads; 0 takes every core.
    #[arg(long, value_name = "COUNT")]
    threads: Option<usize>,
}

/// The flag of roles that have registries elsewhere.
#[derive(Debug, Args)]
pub(crate) struct RegistriesFlag {
    /// Address of a registry, as http://10.0.0.5:8081; give the flag once for each.
    #[arg(long = "registry", value_name = "URL")]
    registries: Vec<String>,
}

impl ProcessFlags {
    /// Puts what was given in the place of the settings.
    pub(crate) fn put_over(&self, config: &mut Config) {
        if let Some(listen) = &self.listen {
            config.server.listen.clone_from(listen);
        }
        if let Some(folder) = &self.data_dir {
            config.data.dir = folder.display().to_string();
        }
    }
}

impl ModelFlags {
    /// Puts what was given in the place of the settings.
    pub(crate) fn put_over(&self, config: &mut Config) {
        if let Some(source) = &self.model {
            config.model.source.clone_from(source);
        }
        if let Some(threads) = self.threads {
            config.engine.threads = threads;
        }
    }
}

impl RegistriesFlag {
    /// Puts what was given in the place of a setting.
    pub(crate) fn put_over(&self, setting: &mut Vec<String>) {
        put_list_over(&self.registries, setting);
    }
}

/// Puts a list that was given in the place of a setting.
pub(crate) fn put_list_over<T: Clone>(given: &[T], setting: &mut Vec<T>) {
    if !given.is_empty() {
        *setting = given.to_vec();
    }
}
