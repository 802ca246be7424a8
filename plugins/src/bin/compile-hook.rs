//! Compiles a component from standard input to standard output: the child of a compiler, and nothing else.

use std::io::{stdin, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    match souk_plugins::child_main(stdin().lock(), stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
