//! Stand-ins for what is not to be measured, for `bench/page/fleet.py`: `node`, a node of a fleet that runs no model, and
//! `upstream`, a server with OpenAI's chat completions that runs none.
//!
//! Without one of these words it does nothing, since `cargo bench` runs it too.

#![expect(clippy::print_stdout, reason = "whoever starts it waits for a line")]

mod node;
mod upstream;

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// What `cargo bench` says.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Role {
    /// Takes jobs from a queue in Redis and answers each with words that it knows beforehand.
    Node(NodeArgs),
    /// Answers chat completions in the same way.
    Upstream {
        /// Where it listens.
        #[arg(long)]
        listen: String,
        #[command(flatten)]
        pace: Pace,
    },
}

/// What a scripted node has to know.
#[derive(Args)]
struct NodeArgs {
    /// Its name.
    #[arg(long)]
    id: String,
    /// Digest of the base model that it claims to run.
    #[arg(long)]
    base: souk_protocol::Digest,
    /// Address of the Redis.
    #[arg(long)]
    redis: String,
    /// Address of a registry.
    #[arg(long)]
    registry: String,
    /// The key that it has there.
    #[arg(long)]
    key: String,
    #[command(flatten)]
    pace: Pace,
}

/// How fast words come.
#[derive(Args, Clone, Copy)]
struct Pace {
    /// Milliseconds of a step, in which each answer gets a token.
    #[arg(long, default_value_t = 10)]
    step_ms: u64,
}

impl Pace {
    const fn step(self) -> Duration {
        Duration::from_millis(self.step_ms)
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    // One thread, as little beside what is measured as can be.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match arguments.role {
        None => Ok(()),
        Some(Role::Node(arguments)) => runtime.block_on(node::run(arguments)),
        Some(Role::Upstream { listen, pace }) => runtime.block_on(upstream::run(&listen, pace)),
    }
}
