//! `souk tenants export` and `souk tenants erase`.

use std::path::PathBuf;

use clap::Args;

use super::server::ServerArgs;

#[derive(Debug, Args)]
pub(crate) struct ExportTenantArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Another tenant, by name (admin only). Default: your own.
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: Option<String>,
    /// Where to write. Default: standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct EraseTenantArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// The tenant, by name.
    pub(crate) name: String,
    /// When, for example 2027-01-31T00:00:00Z. Default: in 30 days. Until then it can be taken back.
    #[arg(long, value_name = "MOMENT", conflicts_with = "cancel")]
    pub(crate) due: Option<String>,
    /// Take it back.
    #[arg(long)]
    pub(crate) cancel: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
