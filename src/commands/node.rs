//! `souk node`: a node apart from gateways.

use std::process::ExitCode;

use tokio::time::Instant;

use crate::cli::NodeArgs;
use crate::config::Config;
use crate::roles::node_apart;

/// Runs it. `began` is when the process did.
pub(crate) async fn run(mut config: Config, flags: NodeArgs, began: Instant) -> anyhow::Result<ExitCode> {
    flags.process.put_over(&mut config);
    flags.model.put_over(&mut config);
    flags.registries.put_over(&mut config.node.registries);
    if let Some(id) = &flags.id {
        config.node.id.clone_from(id);
    }
    config.check()?;
    Box::pin(node_apart::run(config, began)).await?;
    Ok(ExitCode::SUCCESS)
}
