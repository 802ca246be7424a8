//! The `souk` executable: every role of a LoRA adapter marketplace in one process, and the commands around it.
//!
//! Begin with [`serve::run`], which builds the services and wires their ports; [`cli`] lists the commands.

mod bench;
mod catalog;
mod cli;
mod client;
mod commands;
mod config;
mod late_body;
mod memory;
mod pins;
mod routes;
mod serve;
mod take_downs;
mod terminal;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    memory::return_what_is_freed();
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
