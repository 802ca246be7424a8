//! One command, one file. Each reads its arguments, does its work and prints its result.

mod access;
mod audit;
mod bench;
mod chat;
mod check;
mod download;
mod gateway;
mod hook;
mod keys;
mod limits;
mod list;
mod login;
mod members;
mod migrate;
mod models;
mod node;
mod of_tenant;
mod openapi;
mod push;
mod registry;
mod serve;
mod services;
mod tenant_data;
mod tenants;
mod usage;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use crate::cli::{Cli, Command};
use crate::config::Config;

/// Runs the command that was given.
///
/// # Errors
/// What the user should read, with its causes.
pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    if matches!(cli.command, Command::CompileHook) {
        // It has no surroundings, and needs none.
        souk_plugins::child_main(std::io::stdin().lock(), std::io::stdout().lock())?;
        return Ok(ExitCode::SUCCESS);
    }
    let config = Config::load(cli.config.as_deref(), std::env::vars())?;
    let threads = config.server.threads;
    match cli.command {
        Command::Serve(arguments) => until_it_ends(threads, serve::run(config, arguments)),
        Command::Registry(arguments) => until_it_ends(threads, registry::run(config, arguments)),
        Command::Gateway(arguments) => until_it_ends(threads, gateway::run(config, arguments)),
        Command::Node(arguments) => until_it_ends(threads, node::run(config, arguments, began)),
        Command::Services(command) => small_runtime()?.block_on(services::run(command)),
        Command::Models(command) => models::run(&config, command),
        Command::Access(command) => small_runtime()?.block_on(access::run(command)),
        Command::Keys(command) => small_runtime()?.block_on(keys::run(&config, command)),
        Command::Hook(command) => small_runtime()?.block_on(hook::run(command)),
        Command::Tenants(command) => small_runtime()?.block_on(tenants::run(command)),
        Command::Audit(command) => small_runtime()?.block_on(audit::run(command)),
        Command::Members(command) => small_runtime()?.block_on(members::run(&config, command)),
        Command::Limits(command) => small_runtime()?.block_on(limits::run(command)),
        Command::Usage(arguments) => small_runtime()?.block_on(usage::run(arguments)),
        Command::Login(arguments) => small_runtime()?.block_on(login::log_in(arguments)),
        Command::Logout { server } => small_runtime()?.block_on(login::log_out(server)),
        Command::Whoami { server, json } => small_runtime()?.block_on(login::who_am_i(server, json)),
        Command::Migrate(arguments) => small_runtime()?.block_on(migrate::run(&config, arguments)),
        Command::Check(arguments) => runtime(threads)?.block_on(check::run(&config, arguments)),
        Command::Push(arguments) => small_runtime()?.block_on(push::run(arguments)),
        Command::List(arguments) => small_runtime()?.block_on(list::run(arguments)),
        Command::Chat(arguments) => small_runtime()?.block_on(chat::run(arguments)),
        Command::Bench(arguments) => small_runtime()?.block_on(bench::run(*arguments)),
        Command::Openapi(arguments) => openapi::run(&arguments),
        Command::CompileHook => Ok(ExitCode::SUCCESS),
    }
}

/// Runs a server.
fn until_it_ends(threads: usize, server: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = runtime(threads)?;
    let ended = runtime.block_on(server);
    // What still runs on a thread of its own must not keep a process that was told twice to end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

/// With as many threads as `server.threads` says.
fn runtime(threads: usize) -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if threads > 0 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build().context("cannot start the async runtime")
}

/// Commands that only talk to a server need no thread of their own.
fn small_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the async runtime")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_server_has_the_threads_that_it_is_given_or_one_for_each_core() {
        let workers = |threads| super::runtime(threads).unwrap().metrics().num_workers();
        let cores = std::thread::available_parallelism().unwrap().get();
        assert_eq!([workers(0), workers(1), workers(3)], [cores, 1, 3]);
    }
}
