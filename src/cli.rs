//! The commands and their flags. `--help` is written here, in doc comments.

mod access;
mod audit;
mod chat;
mod database;
mod hook;
mod keys;
mod limits;
mod members;
mod models;
mod push;
mod roles;
mod server;
mod services;
mod tenant_data;
mod tenants;
mod usage;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use access::AccessCommand;
pub(crate) use audit::{AuditCommand, ChainArgs};
pub(crate) use chat::{ChatArgs, FormArgs};
pub(crate) use database::{CheckArgs, MigrateArgs, MigrateCommand};
pub(crate) use hook::{HookCommand, Language, TargetArgs, TriedArgs};
pub(crate) use keys::KeysCommand;
pub(crate) use limits::{LimitsCommand, TeamsCommand};
pub(crate) use members::{LoginArgs, MembersCommand, OfTenant};
pub(crate) use models::ModelsCommand;
pub(crate) use push::{Direct, PushArgs};
pub(crate) use roles::{GatewayArgs, NodeArgs, RegistryArgs, ServeArgs, put_list_over};
pub(crate) use server::ServerArgs;
pub(crate) use services::ServicesCommand;
pub(crate) use tenant_data::{EraseTenantArgs, ExportTenantArgs};
pub(crate) use tenants::TenantsCommand;
pub(crate) use usage::{By as UsageBy, UsageArgs};

/// A marketplace of LoRA adapters served from one shared base model.
///
/// `souk serve` starts everything on one port: an OpenAI-compatible API, the adapter registry and a node that runs the
/// base model. The other commands talk to a running server; they read its address from --url or SOUK_URL and the API
/// key from --api-key or SOUK_API_KEY, else they use the one that `souk login` got for that server.
///
/// Settings beyond the flags: a TOML file (--config) and SOUK_SECTION__KEY variables, listed in config/default.toml.
#[derive(Debug, Parser)]
#[command(name = "souk", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// TOML file with settings; keys as in config/default.toml.
    #[arg(long, global = true, env = "SOUK_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start every role in this process and serve until Ctrl-C or SIGTERM.
    Serve(ServeArgs),
    /// Start a registry alone: tenants, keys and adapters, without a model. Serve until Ctrl-C or SIGTERM.
    ///
    /// Which base models uploads may be made for is in the files of registry.base_files, which `souk models describe`
    /// writes. Any number of registries share one database and one object store.
    Registry(RegistryArgs),
    /// Start a gateway whose registries are elsewhere, with a node or for nodes apart. Serve until Ctrl-C or SIGTERM.
    ///
    /// The registries are those of gateway.registries; it shows them the key of gateway.registry_key, which
    /// `souk services create` makes. With gateway.nodes = "apart" it has no node, and its queue is in the Redis of redis.url.
    Gateway(GatewayArgs),
    /// Start a node for gateways elsewhere. Run until Ctrl-C or SIGTERM.
    ///
    /// Its jobs are in the Redis of redis.url, files of adapters at the registries of node.registries; it shows those the
    /// key of node.registry_key, which `souk services create --kind node` makes.
    Node(NodeArgs),
    /// Create, list or revoke the keys that gateways show to registries (admin).
    #[command(subcommand)]
    Services(ServicesCommand),
    /// List, fetch or describe base models.
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Create, list, rotate or revoke API keys, say what keys may be, make a new admin key when it is lost.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Ask for access to gated adapters, decide on requests, share adapters with other tenants.
    #[command(subcommand)]
    Access(AccessCommand),
    /// Publish hooks, attach them before and after the model, and see what they did.
    #[command(subcommand)]
    Hook(HookCommand),
    /// Create or list tenants (admin).
    #[command(subcommand)]
    Tenants(TenantsCommand),
    /// List, export or verify who changed what.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// List, ask, change and remove members of a tenant; list and take back invitations; make links that sign members in.
    #[command(subcommand)]
    Members(MembersCommand),
    /// Show what tenants, teams, members and keys may use and have used; set limits; make teams.
    #[command(subcommand)]
    Limits(LimitsCommand),
    /// Show what was used, by day, key, member or adapter, what one request was charged, or all of it as CSV.
    Usage(UsageArgs),
    /// Sign in with the browser and keep a key of yours for this server.
    Login(LoginArgs),
    /// Revoke the key that `souk login` got, and forget it.
    Logout {
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Tell whose the key is, and what it may do.
    Whoami {
        #[command(flatten)]
        server: ServerArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Tell how far the database's schema is, or bring it up to date on the server's own host.
    ///
    /// Exit code of `status`: 0 up to date, 3 something is pending, 4 a newer version has changed the database.
    Migrate(MigrateArgs),
    /// Compare the database with the adapters' files, on the server's own host.
    Check(CheckArgs),
    /// Publish a PEFT adapter folder as a version.
    Push(PushArgs),
    /// List the adapters that you may use.
    List(ListArgs),
    /// Talk to a model; with a message, answer it and exit.
    Chat(ChatArgs),
    /// Put a load on an OpenAI-compatible server and report throughput, latency, errors and fairness.
    ///
    /// `souk bench fleet` simulates how requests are routed in a fleet instead; it needs no server.
    Bench(Box<BenchCommand>),
    /// Write openapi/registry.json and openapi/gateway.json.
    Openapi(OpenapiArgs),
    /// Compile a hook from standard input to standard output, under limits; a server runs it of itself.
    #[command(hide = true)]
    CompileHook,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// List every public adapter where the server's list ends, page by page; takes a key with the scope `adapters:read`.
    #[arg(long)]
    pub(crate) all: bool,
    /// Print the list as JSON: for each model its `id` and its `owner`.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BenchCommand {
    #[command(subcommand)]
    pub(crate) instead: Option<Simulate>,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Simulate {
    /// Simulate how requests are routed in a fleet: ours, plain rendezvous hashing, least loaded and random, with scripted nodes and
    /// virtual time.
    Fleet(souk_bench::fleet::FleetArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) load: souk_bench::BenchArgs,
}

#[derive(Debug, Args)]
pub(crate) struct OpenapiArgs {
    /// Folder to write to.
    #[arg(long, default_value = "openapi", value_name = "FOLDER")]
    pub(crate) dir: PathBuf,
    /// Write nothing; fail if the files differ from what would be written.
    #[arg(long)]
    pub(crate) check: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_answer_has_one_form() {
        let parse = |flags: &[&str]| Cli::try_parse_from([&["souk", "chat"], flags, &["hello"]].concat());
        let Ok(Cli { command: Command::Chat(chat), .. }) = parse(&["--choice", "yes", "--choice", "no"]) else {
            panic!("one flag may be given several times")
        };
        assert_eq!(
            (chat.form.choices, chat.message),
            (vec!["yes".to_owned(), "no".to_owned()], Some("hello".to_owned()))
        );
        let error = parse(&["--regex", "a+", "--json"]).unwrap_err().to_string();
        assert!(error.contains("'--regex <REGEX>' cannot be used with '--json'"), "{error}");
    }
}
