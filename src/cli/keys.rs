//! `souk keys`.

use std::path::PathBuf;

use clap::Subcommand;

use super::server::ServerArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Create a key of your tenant and print its secret, once.
    Create {
        #[command(flatten)]
        server: ServerArgs,
        /// What the key is for.
        name: String,
        /// What the key may do: inference, adapters:read, adapters:write, keys:manage, access:decide, audit:read, usage:read, tenant:manage, admin.
        #[arg(long = "scope", value_name = "SCOPE", default_values = ["inference", "adapters:read"])]
        scopes: Vec<String>,
        /// A model that the key may call: owner/name, with @version or :tag, owner/* or a base model; give the flag once for
        /// each. Default: all that the tenant may.
        #[arg(long = "model", value_name = "PATTERN")]
        models: Vec<String>,
        /// Make a service's key, which stays when you leave the tenant. Default: your own, where you call as a person.
        #[arg(long, conflicts_with = "personal")]
        service: bool,
        /// Make a key of your own.
        #[arg(long)]
        personal: bool,
        /// When the key stops working by itself, for example 2027-01-01T00:00:00Z.
        #[arg(long, value_name = "MOMENT")]
        expires_at: Option<String>,
        /// Tenant to create the key for, by name (admin only). Default: your own.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the keys of your tenant, or your own; secrets are never shown.
    List {
        #[command(flatten)]
        server: ServerArgs,
        /// Tenant whose keys are meant, by name (admin only). Default: your own.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Make another key with the same rights and print it, once; the old one ends after a while.
    Rotate {
        #[command(flatten)]
        server: ServerArgs,
        /// The key's id, as listed.
        id: String,
        /// Seconds that the old key still works; 0 revokes it at once. Default: as long as the server allows.
        #[arg(long, value_name = "SECONDS")]
        overlap_s: Option<u64>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show what your tenant says of its keys, or set it.
    Policy {
        #[command(flatten)]
        server: ServerArgs,
        /// Set the policy; what no flag names has no bound then.
        #[arg(long)]
        set: bool,
        /// Days that a key lives at most.
        #[arg(long, value_name = "DAYS", requires = "set")]
        max_days: Option<u32>,
        /// What keys may do; give the flag once for each scope.
        #[arg(long = "scope", value_name = "SCOPE", requires = "set")]
        scopes: Vec<String>,
        /// Let no person have keys of their own.
        #[arg(long, requires = "set")]
        no_personal: bool,
        /// Revoke keys that break the policy, which are otherwise listed.
        #[arg(long, requires = "set")]
        end_breaking: bool,
        /// Tenant whose policy is meant, by name (admin only). Default: your own.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key and those that were made with it, at once.
    Revoke {
        #[command(flatten)]
        server: ServerArgs,
        /// The key's id, as listed.
        id: String,
        /// Leave the keys that were made with it, which are otherwise revoked too.
        #[arg(long)]
        keep_made: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a new admin key on the server's own host, after the last one was lost. Needs no key, but the data folder.
    ///
    /// A running server takes the new key at once. Other keys stay: revoke with it what may be in strange hands.
    Recover {
        /// Folder of the database and the adapter files, as `souk serve` has it. Default: the setting data.dir.
        #[arg(long, value_name = "FOLDER")]
        data_dir: Option<PathBuf>,
        /// Where to write the key (mode 0600) instead of printing it.
        #[arg(long, value_name = "FILE")]
        admin_key_file: Option<PathBuf>,
    },
}
