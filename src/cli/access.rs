//! `souk access`.

use clap::Subcommand;

use super::server::ServerArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum AccessCommand {
    /// Show what the owner of a gated adapter asks.
    Form {
        #[command(flatten)]
        server: ServerArgs,
        /// owner/name.
        adapter: String,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Ask for access to a gated adapter, in the name of your tenant.
    Request {
        #[command(flatten)]
        server: ServerArgs,
        /// owner/name.
        adapter: String,
        /// An answer to the owner's questions; give the flag once for each. A checkbox is answered with yes or no.
        #[arg(long = "answer", value_name = "NAME=ANSWER")]
        answers: Vec<String>,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// List the requests that your tenant made, or those for its adapters.
    List {
        #[command(flatten)]
        server: ServerArgs,
        /// Those for the adapters of your tenant.
        #[arg(long)]
        received: bool,
        /// Only those in this state: pending, approved, rejected, withdrawn, revoked.
        #[arg(long, value_name = "STATE")]
        state: Option<String>,
        /// Only those for this adapter, owner/name.
        #[arg(long, value_name = "ADAPTER", requires = "received")]
        adapter: Option<String>,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Grant what a request asks for.
    Approve {
        #[command(flatten)]
        server: ServerArgs,
        /// The request's id, as listed.
        id: String,
        /// When the access ends by itself, for example 2027-01-01T00:00:00Z.
        #[arg(long, value_name = "MOMENT")]
        expires_at: Option<String>,
        /// What you note about it; the tenant does not see it.
        #[arg(long, default_value = "", value_name = "TEXT")]
        note: String,
        /// What the tenant is told.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Do not grant what a request asks for.
    Reject {
        #[command(flatten)]
        server: ServerArgs,
        /// The request's id, as listed.
        id: String,
        /// What the tenant is told.
        reason: String,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Take back what was granted for a request; running answers end.
    Revoke {
        #[command(flatten)]
        server: ServerArgs,
        /// The request's id, as listed.
        id: String,
        /// What the tenant is told.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Take a request of your tenant back, or give up what was granted for it.
    Withdraw {
        #[command(flatten)]
        server: ServerArgs,
        /// The request's id, as listed.
        id: String,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Let another tenant call an adapter of yours that is shared or gated, or change how.
    Share {
        #[command(flatten)]
        server: ServerArgs,
        /// owner/name.
        adapter: String,
        /// The tenant, by name.
        tenant: String,
        /// When that ends by itself, for example 2027-01-01T00:00:00Z.
        #[arg(long, value_name = "MOMENT")]
        expires_at: Option<String>,
        /// What you note about it; the tenant does not see it.
        #[arg(long, default_value = "", value_name = "TEXT")]
        note: String,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Take back what was shared; running answers end.
    Unshare {
        #[command(flatten)]
        server: ServerArgs,
        /// owner/name.
        adapter: String,
        /// The tenant, by name.
        tenant: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the tenants that may call an adapter of yours.
    Shares {
        #[command(flatten)]
        server: ServerArgs,
        /// owner/name.
        adapter: String,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
}
