//! `souk node`: a node apart from gateways.

use std::process::ExitCode;

use tokio::time::Instant;

use crate::cli::NodeArgs;
use crate::config::Config;
use crate::roles::node_apart;

/// Runs it. `began` is when the process did.
pub(crate) async fn run(mut config: Config, flags: NodeArgs, began: Instant) -> anyhow::Result<ExitCode> {
    if let Some(listen) = &flags.listen {
        config.server.listen.clone_from(listen);
    }
    if let Some(id) = &flags.id {
        config.node.id.clone_from(id);
    }
    if let Some(source) = &flags.model {
        config.model.source.clone_from(source);
    }
    if let Some(folder) = &flags.data_dir {
        config.data.dir = folder.display().to_string();
    }
    if let Some(threads) = flags.threads {
        config.engine.threads = threads;
    }
    if !flags.registries.is_empty() {
        config.node.registries.clone_from(&flags.registries);
    }
    config.check()?;
    Box::pin(node_apart::run(config, began)).await?;
    Ok(ExitCode::SUCCESS)
}
