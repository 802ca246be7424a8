//! `souk services`.

use clap::Subcommand;
use souk_protocol::ServiceKind;

use super::server::ServerArgs;

/// What a service is.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum ServiceKindArg {
    /// It serves the OpenAI API.
    Gateway,
    /// It runs a base model.
    Node,
}

impl From<ServiceKindArg> for ServiceKind {
    fn from(given: ServiceKindArg) -> Self {
        match given {
            ServiceKindArg::Gateway => Self::Gateway,
            ServiceKindArg::Node => Self::Node,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServicesCommand {
    /// Create a key for a service, a gateway or a node, and print its secret, once.
    Create {
        #[command(flatten)]
        server: ServerArgs,
        /// The service's name: 1 to 64 of a-z, 0-9, `-`, `_`, `.`. Another key may have it while one follows the other.
        name: String,
        /// What it is, which says what it may ask registries: a node fetches what its jobs are about, and nothing else.
        #[arg(long, value_enum, default_value_t = ServiceKindArg::Gateway)]
        kind: ServiceKindArg,
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
