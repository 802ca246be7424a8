//! The `souk` executable: every role of a LoRA adapter marketplace in one process, and the commands around it.
//!
//! Begin with [`roles::all`], which builds the services and wires their ports; [`cli`] lists the commands.

mod cli;
mod config;

mod commands;
mod roles;

mod ports;

mod allocator;
mod client;
mod credentials;
mod private_file;
mod telemetry;
mod terminal;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    allocator::return_what_is_freed();
    let cli = cli::Cli::parse();
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) if terminal::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::error(&error);
            ExitCode::FAILURE
        }
    }
}
