//! `souk tenants`.

use clap::Subcommand;

use super::server::ServerArgs;
use super::tenant_data::{EraseTenantArgs, ExportTenantArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum TenantsCommand {
    /// Create a tenant. Its name is the first half of its adapters' names.
    Create {
        #[command(flatten)]
        server: ServerArgs,
        /// 1 to 64 of a-z, 0-9, `-`, `_`, `.`.
        name: String,
        /// Print the tenant as JSON, as the API has it.
        #[arg(long)]
        json: bool,
    },
    /// Write all that is a tenant's as JSON lines, without secrets.
    Export(ExportTenantArgs),
    /// Have a tenant erased at some moment, or take that back (admin).
    Erase(EraseTenantArgs),
    /// List tenants.
    List {
        #[command(flatten)]
        server: ServerArgs,
        /// Print the list as JSON, as the API has it.
        #[arg(long)]
        json: bool,
    },
}
