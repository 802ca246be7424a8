//! What works on a server's data on its own host: `souk check` and `souk migrate`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Works beside a running server, and changes nothing without --repair.
///
/// Exit codes: 0 nothing is wrong, 1 database and objects cannot be compared, 3 something is wrong.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Folder of the database and the adapter files, as `souk serve` has it. Default: the setting data.dir.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Read every object and compare its bytes with its digest.
    #[arg(long)]
    pub(crate) deep: bool,
    /// Put damaged objects aside, note those that nothing refers to for the collector, and make sums of usage what their rows
    /// say. Removes nothing.
    #[arg(long)]
    pub(crate) repair: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// Without one: status.
    #[command(subcommand)]
    pub(crate) command: Option<MigrateCommand>,
    /// Folder of the database, as `souk serve` has it. Default: the setting data.dir.
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MigrateCommand {
    /// List the migrations and when each was made.
    Status,
    /// Make all that are pending, also those that older versions could not live with.
    Up {
        /// Try all of it in one transaction and take it back. Servers on the database wait meanwhile.
        #[arg(long)]
        dry_run: bool,
    },
}
