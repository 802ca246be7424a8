//! `souk services`.

use clap::Subcommand;

use super::server::ServerArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum ServicesCommand {
    /// Create a key for a service, such as a gateway, and print its secret, once.
    Create {
        #[command(flatten)]
        server: ServerArgs,
        /// The service's name: 1 to 64 of a-z, 0-9, `-`, `_`, `.`. Another key may have it while one follows the other.
        name: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the keys of services; secrets are never shown.
    List {
        #[command(flatten)]
        server: ServerArgs,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Revoke the key of a service, at once.
    Revoke {
        #[command(flatten)]
        server: ServerArgs,
        /// The key's id, as listed.
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}
