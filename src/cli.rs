//! The commands and their flags. `--help` is written here, in doc comments.

mod audit;
mod server;
mod tenant_data;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use audit::{AuditCommand, ChainArgs};
pub(crate) use server::ServerArgs;
pub(crate) use tenant_data::{EraseTenantArgs, ExportTenantArgs};

/// A marketplace of LoRA adapters served from one shared base model.
///
/// `souk serve` starts everything on one port: an OpenAI-compatible API, the adapter registry and a node that runs the
/// base model. The other commands talk to a running server; they read its address from --url or SOUK_URL and the API
/// key from --api-key or SOUK_API_KEY.
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
    /// Start a gateway with a node, whose registries are elsewhere. Serve until Ctrl-C or SIGTERM.
    ///
    /// The registries are those of gateway.registries; it shows them the key of gateway.registry_key, which
    /// `souk services create` makes.
    Gateway(GatewayArgs),
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
    /// Create or list tenants (admin).
    #[command(subcommand)]
    Tenants(TenantsCommand),
    /// List, export or verify who changed what.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// List, ask, change and remove members of a tenant; make links that sign them in.
    #[command(subcommand)]
    Members(MembersCommand),
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
    Bench(Box<LoadArgs>),
    /// Write openapi/registry.json and openapi/gateway.json.
    Openapi(OpenapiArgs),
}

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
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServicesCommand {
    /// Create a key for a service, such as a gateway, and print its secret, once.
    Create {
        #[command(flatten)]
        server: ServerArgs,
        /// The service's name: 1 to 64 of a-z, 0-9, `-`, `_`, `.`. Another key may have it while one follows the other.
        name: String,
    },
    /// List the keys of services; secrets are never shown.
    List {
        #[command(flatten)]
        server: ServerArgs,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a service's key, at once.
    Revoke {
        #[command(flatten)]
        server: ServerArgs,
        /// The key's id, as listed.
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// List the base models known by name and whether they are in the cache.
    List {
        /// Print the list as JSON: for each model its `id`, its `size_bytes` and whether it `is_cached`.
        #[arg(long)]
        json: bool,
    },
    /// Fetch a base model into the cache.
    Pull {
        /// A known name, or hf:owner/repo[@revision].
        source: String,
    },
    /// Fetch a base model if need be and write what a registry has to know of it, without its weights.
    Describe {
        /// A known name, a .gguf path, a safetensors folder or hf:owner/repo[@revision].
        source: String,
        /// Where to write it. Default: standard output.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Create a key of your tenant and print its secret, once.
    Create {
        #[command(flatten)]
        server: ServerArgs,
        /// What the key is for.
        name: String,
        /// What the key may do: inference, adapters:read, adapters:write, keys:manage, access:decide, audit:read, tenant:manage, admin.
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

#[derive(Debug, Subcommand)]
pub(crate) enum MembersCommand {
    /// List the members of your tenant.
    List {
        #[command(flatten)]
        of: MembersOf,
    },
    /// Ask somebody to become a member, and print the link for them, once. No mail is sent.
    Invite {
        #[command(flatten)]
        of: MembersOf,
        /// Whom to ask.
        email: String,
        /// What they become: owner, publisher, developer, billing or viewer.
        #[arg(long, value_name = "ROLE")]
        role: String,
    },
    /// Give a member another role.
    Role {
        #[command(flatten)]
        of: MembersOf,
        /// The person's id, as listed.
        person: String,
        /// owner, publisher, developer, billing or viewer.
        role: String,
    },
    /// Remove a member. Sessions and own keys end with it; keys of services stay.
    Remove {
        #[command(flatten)]
        of: MembersOf,
        /// The person's id, as listed.
        person: String,
    },
    /// Make a link that signs a member in, once, and print it.
    Link {
        #[command(flatten)]
        of: MembersOf,
        /// The person's id, as listed; with --host also an e-mail address.
        person: String,
        /// Make it on the server's own host: needs no key, but the data folder, and signs in for all of the person's tenants.
        #[arg(long)]
        host: bool,
        /// With --host, where browsers reach the server. Default: the setting server.public_url.
        #[arg(long, value_name = "URL", requires = "host")]
        public_url: Option<String>,
        /// With --host, folder of the database, as `souk serve` has it. Default: the setting data.dir.
        #[arg(long, value_name = "FOLDER", requires = "host")]
        data_dir: Option<PathBuf>,
    },
}

/// Whose members, and how to print.
#[derive(Debug, Args)]
pub(crate) struct MembersOf {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// The tenant, by name (admin only). Default: your own.
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// Address of the server.
    #[arg(long, env = "SOUK_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub(crate) url: String,
    /// What the key is called. Default: the name of this machine.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Print the address and open no browser.
    #[arg(long)]
    pub(crate) no_browser: bool,
}

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
    /// Put damaged objects aside, and note those that nothing refers to for the collector. Removes nothing.
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

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Folder with adapter_config.json, adapter_model.safetensors and, optionally, README.md and chat_template.jinja or
    /// tokenizer_config.json.
    pub(crate) folder: PathBuf,
    /// owner/name@version, for example acme/sst2@1.0.0. The adapter is created if it does not exist.
    pub(crate) reference: String,
    /// Let everybody use the adapter when it is created here. Default: only your tenant.
    #[arg(long)]
    pub(crate) public: bool,
    /// The base model that the adapter was trained on, where adapter_config.json names a folder that says nothing.
    #[arg(long, value_name = "NAME")]
    pub(crate) base: Option<String>,
    /// Publish even if the adapter changes nothing, for example because every B is zero.
    #[arg(long)]
    pub(crate) allow_no_effect: bool,
    /// One line about the adapter, used when it is created here.
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) description: String,
    /// Send the weights straight to the object store, in parts: where the server's store is a bucket, an upload that was
    /// interrupted goes on where it was when the same command is given again.
    #[arg(long, value_enum, default_value_t = Direct::Auto, value_name = "WHEN")]
    pub(crate) direct: Direct,
    /// End an upload of the same number that was interrupted, and begin anew.
    #[arg(long)]
    pub(crate) start_over: bool,
}

/// When weights go straight to the object store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Direct {
    /// If they have 64 MiB or more and the store takes them.
    Auto,
    /// Whatever they have.
    Always,
    /// They go through the server.
    Never,
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
pub(crate) struct ChatArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Base model id or adapter reference. Default: the server's base model.
    #[arg(short, long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// Send the message as a plain completion prompt, without the chat template.
    #[arg(long)]
    pub(crate) raw: bool,
    /// Most tokens of the answer.
    #[arg(long, default_value_t = 256, value_name = "COUNT")]
    pub(crate) max_tokens: u32,
    /// 0 always takes the likeliest token; larger values vary more.
    #[arg(long, default_value_t = 0.0, value_name = "0..2")]
    pub(crate) temperature: f32,
    #[command(flatten)]
    pub(crate) form: FormArgs,
    /// What to say. Without it, read lines from standard input and keep the conversation.
    pub(crate) message: Option<String>,
}

/// What every answer of a chat must look like: at most one of these.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct FormArgs {
    /// Answer with JSON that conforms to the JSON schema in this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json_schema: Option<PathBuf>,
    /// Answer with a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Answer with text that this regular expression matches from beginning to end.
    #[arg(long, value_name = "REGEX")]
    pub(crate) regex: Option<String>,
    /// Answer with a text of the grammar in this file (Lark, as in docs/api.md).
    #[arg(long, value_name = "FILE")]
    pub(crate) grammar: Option<PathBuf>,
    /// Answer with one of these texts; give the flag once for each.
    #[arg(long = "choice", value_name = "TEXT")]
    pub(crate) choices: Vec<String>,
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
