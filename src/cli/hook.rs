//! Code before and after the model: what `souk hook` asks a server.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::members::OfTenant;
use super::server::ServerArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum HookCommand {
    /// Begin a hook: a folder with one that works, and a case of what it does.
    New {
        /// What it is written in.
        #[arg(long, value_name = "LANGUAGE")]
        lang: Language,
        /// The folder that is made; the hook is named after it.
        folder: PathBuf,
    },
    /// Build the component of a hook's folder, `hook.wasm`, and check it as it is when it is published.
    Build {
        /// The folder that `souk hook new` made.
        #[arg(default_value = ".")]
        folder: PathBuf,
        /// For cargo, where the hook is in Rust.
        #[arg(last = true, value_name = "ARGUMENTS")]
        arguments: Vec<String>,
    },
    /// Run the recorded cases of a hook; the exit code is 1 where one comes out otherwise.
    Test {
        #[command(flatten)]
        hook: TriedArgs,
        /// Record what the hook makes of them.
        #[arg(long)]
        bless: bool,
    },
    /// Run the recorded cases of a hook again and again, and say what they take.
    Bench {
        #[command(flatten)]
        hook: TriedArgs,
        /// Seconds for each case.
        #[arg(long, value_name = "SECONDS", default_value_t = 1)]
        seconds: u64,
    },
    /// Publish a component as a version, making the hook if there is none of that name.
    Publish {
        #[command(flatten)]
        to: HookServer,
        /// The component, as `souk hook build` writes it.
        component: PathBuf,
        /// `owner/name@version`.
        reference: String,
        /// Who may see and attach a hook that is made: private, shared or public.
        #[arg(long, default_value = "private")]
        visibility: String,
        /// What a hook that is made is for.
        #[arg(long, default_value = "")]
        description: String,
    },
    /// List the hooks that you may attach.
    List {
        #[command(flatten)]
        to: HookServer,
        /// Only those with this text in their name or description.
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
    },
    /// Show a hook with its versions, or one version with what was found when it was published.
    Show {
        #[command(flatten)]
        to: HookServer,
        /// `owner/name` or `owner/name@version`.
        reference: String,
    },
    /// Attach a hook as the last step of a pipeline.
    Attach {
        #[command(flatten)]
        to: HookServer,
        /// `owner/name@version`, or `owner/name` for the latest; it is pinned to that version.
        reference: String,
        #[command(flatten)]
        at: TargetArgs,
        /// How it is configured, as JSON; `@FILE` reads a file.
        #[arg(long, value_name = "JSON", default_value = "{}")]
        hook_config: String,
        /// Let requests go on where it fails.
        #[arg(long)]
        skip: bool,
        /// Only for this share of requests, in hundredths: `10`, or `10..100` for the others.
        #[arg(long, value_name = "SHARE")]
        share: Option<String>,
        /// As the first step.
        #[arg(long)]
        first: bool,
    },
    /// Take a hook out of a pipeline.
    Detach {
        #[command(flatten)]
        to: HookServer,
        /// `owner/name` for all its versions, or `owner/name@version`.
        reference: String,
        #[command(flatten)]
        at: TargetArgs,
    },
    /// Show a pipeline, or all of them; with --history those before.
    Pipeline {
        #[command(flatten)]
        to: HookServer,
        #[command(flatten)]
        at: TargetArgs,
        /// Show what it was before, too.
        #[arg(long, conflicts_with = "all")]
        history: bool,
        /// Show all pipelines of the tenant.
        #[arg(long, conflicts_with_all = ["key", "route", "adapter"])]
        all: bool,
    },
    /// Go back to a pipeline of before.
    Rollback {
        #[command(flatten)]
        to: HookServer,
        #[command(flatten)]
        at: TargetArgs,
        /// Its number, as `souk hook pipeline --history` shows it; absent for the one before the last change.
        number: Option<i64>,
    },
    /// Show what your tenant's hooks may read of it, or change it.
    Variables {
        #[command(flatten)]
        to: HookServer,
        /// `NAME=VALUE` to set one, `NAME=` to take it away; may be given several times.
        #[arg(long = "set", value_name = "NAME=VALUE")]
        set: Vec<String>,
        /// A tenant that may read what its hooks say in your requests; may be given several times.
        #[arg(long = "let-read", value_name = "TENANT")]
        let_read: Vec<String>,
        /// A tenant that may read it no more; may be given several times.
        #[arg(long = "stop-reading", value_name = "TENANT")]
        stop_reading: Vec<String>,
    },
    /// Show what your tenant's hooks may take, or say it for a tenant (admin).
    Limits {
        #[command(flatten)]
        of: OfTenant,
        /// `NAME=NUMBER` to say one, by the names of [hooks.limits] or max_running and max_streams; may be given several times.
        #[arg(long = "set", value_name = "NAME=NUMBER", requires = "tenant")]
        set: Vec<String>,
        /// One that is to be as the settings have it; may be given several times.
        #[arg(long = "unset", value_name = "NAME", requires = "tenant")]
        unset: Vec<String>,
        /// Whether the tenant may publish large components, such as those made of Python.
        #[arg(long, value_name = "true|false", requires = "tenant")]
        large: Option<bool>,
    },
    /// Show what a hook of yours wrote and how it failed, the last lines first.
    Logs {
        #[command(flatten)]
        to: HookServer,
        /// `owner/name`.
        hook: String,
        /// Only how it failed.
        #[arg(long)]
        failures: bool,
        /// Most lines.
        #[arg(long, default_value_t = 100, value_name = "NUMBER")]
        limit: usize,
    },
}

/// What hooks are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// Rust, for the target wasm32-unknown-unknown.
    Rust,
    /// JavaScript, run by QuickJS.
    Js,
    /// Python; its components are large.
    Python,
    /// C.
    C,
}

/// A hook that is tried here, without a server.
#[derive(Debug, Args)]
pub(crate) struct TriedArgs {
    /// Its folder with `hook.wasm`, or its component.
    #[arg(default_value = ".", value_name = "FOLDER|COMPONENT")]
    pub(crate) hook: PathBuf,
    /// Where its cases are; `cases` beside the component if nothing is said.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) cases: Option<PathBuf>,
}

/// A server, and how its answers are shown.
#[derive(Debug, Args)]
pub(crate) struct HookServer {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where a pipeline hangs: at the tenant if nothing is said.
#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// At one of your tenant's keys, by its id.
    #[arg(long, value_name = "ID", conflicts_with_all = ["route", "adapter"])]
    pub(crate) key: Option<String>,
    /// At a route: chat or completions.
    #[arg(long, value_name = "ROUTE", conflicts_with = "adapter")]
    pub(crate) route: Option<String>,
    /// At a version of one of your adapters, for whoever calls it: owner/name@version.
    #[arg(long, value_name = "REFERENCE")]
    pub(crate) adapter: Option<String>,
}
