//! What starts the roles of a server: `souk serve`, `souk registry`, `souk gateway` and `souk node`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Address to listen on; port 0 takes a free one. Bounds who can reach the server: 127.0.0.1 is this machine only.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// Base model: a known name, a .gguf path, a safetensors folder or hf:owner/repo.
    #[arg(long, value_name = "SOURCE")]
    pub(crate) model: Option<String>,
    /// Folder of the database and the adapter files.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Compute threads; 0 takes every core.
    #[arg(long, value_name = "COUNT")]
    pub(crate) threads: Option<usize>,
    /// Where to write the admin key of the first start (mode 0600), beside printing it.
    #[arg(long, value_name = "FILE")]
    pub(crate) admin_key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RegistryArgs {
    /// Address to listen on; port 0 takes a free one. Bounds who can reach the server: 127.0.0.1 is this machine only.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// Folder of the database and the adapter files.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data_dir: Option<PathBuf>,
    /// File of a base model that uploads may be made for, as `souk models describe` writes it; give the flag once for each.
    #[arg(long = "base", value_name = "FILE")]
    pub(crate) bases: Vec<PathBuf>,
    /// Where to write the admin key of the first start (mode 0600), beside printing it.
    #[arg(long, value_name = "FILE")]
    pub(crate) admin_key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    /// Address to listen on; port 0 takes a free one. Bounds who can reach the server: 127.0.0.1 is this machine only.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// Base model: a known name, a .gguf path, a safetensors folder or hf:owner/repo.
    #[arg(long, value_name = "SOURCE")]
    pub(crate) model: Option<String>,
    /// Folder of packed adapters.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Compute threads; 0 takes every core.
    #[arg(long, value_name = "COUNT")]
    pub(crate) threads: Option<usize>,
    /// Address of a registry, as http://10.0.0.5:8081; give the flag once for each.
    #[arg(long = "registry", value_name = "URL")]
    pub(crate) registries: Vec<String>,
    /// File of a base model that nodes apart serve, as `souk models describe` writes it; give the flag once for each.
    #[arg(long = "base", value_name = "FILE")]
    pub(crate) bases: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// Address of the port for operators; port 0 takes a free one. It answers /health, /ready and /metrics.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// What the node is called, like no other that runs: 1 to 64 of a-z, 0-9, `-`, `_`, `.`.
    #[arg(long, value_name = "NAME")]
    pub(crate) id: Option<String>,
    /// Base model: a known name, a .gguf path, a safetensors folder or hf:owner/repo.
    #[arg(long, value_name = "SOURCE")]
    pub(crate) model: Option<String>,
    /// Folder of packed adapters.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Compute threads; 0 takes every core.
    #[arg(long, value_name = "COUNT")]
    pub(crate) threads: Option<usize>,
    /// Address of a registry, as http://10.0.0.5:8081; give the flag once for each.
    #[arg(long = "registry", value_name = "URL")]
    pub(crate) registries: Vec<String>,
}
