//! `souk audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::server::ServerArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List the newest changes of your tenant: who did what with what.
    List {
        #[command(flatten)]
        server: ServerArgs,
        #[command(flatten)]
        chain: ChainArgs,
        /// Most changes to list.
        #[arg(long, default_value_t = 50, value_name = "COUNT")]
        limit: usize,
        /// Print JSON lines instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Write all changes as JSON lines, the oldest first, in a form that can be verified.
    Export {
        #[command(flatten)]
        server: ServerArgs,
        #[command(flatten)]
        chain: ChainArgs,
        /// Where to write. Default: standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Print where the chain ended, hour for hour, as JSON lines: keep them where nobody who runs the server can write.
    Heads {
        #[command(flatten)]
        server: ServerArgs,
        #[command(flatten)]
        chain: ChainArgs,
    },
    /// Tell whether a chain is what was appended; name the first entry that is not.
    ///
    /// With a file, asks no server. Exit codes: 0 all of it fits, 1 it could not be read, 3 something does not fit.
    Verify {
        #[command(flatten)]
        server: ServerArgs,
        #[command(flatten)]
        chain: ChainArgs,
        /// An export. Default: the server's own, as it is now, against the heads that it has published.
        file: Option<PathBuf>,
        /// Heads that were kept, as `souk audit heads` prints them. Without any, a chain that was written anew as a whole
        /// looks good.
        #[arg(long, value_name = "FILE")]
        heads: Option<PathBuf>,
        /// Print JSON: what fits, or the first fault as `fault`.
        #[arg(long)]
        json: bool,
    },
}

/// Whose chain. Without a flag: your tenant's.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct ChainArgs {
    /// Another tenant, by name (admin only).
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: Option<String>,
    /// What belongs to no tenant (admin only).
    #[arg(long)]
    pub(crate) installation: bool,
}
