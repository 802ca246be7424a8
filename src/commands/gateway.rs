//! `souk gateway`: a gateway whose registries are elsewhere, and a node, unless nodes are apart.

use std::process::ExitCode;

use souk_gateway::NodesAre;

use crate::cli::GatewayArgs;
use crate::config::Config;
use crate::roles::{data_plane, gateway_apart};

pub(crate) async fn run(mut config: Config, flags: GatewayArgs) -> anyhow::Result<ExitCode> {
    if let Some(listen) = &flags.listen {
        config.server.listen.clone_from(listen);
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
        config.gateway.registries.clone_from(&flags.registries);
    }
    if !flags.bases.is_empty() {
        config.gateway.base_files.clone_from(&flags.bases);
    }
    config.check()?;
    match config.gateway.nodes {
        NodesAre::Inside => Box::pin(data_plane::run(config)).await?,
        NodesAre::Apart => Box::pin(gateway_apart::run(config)).await?,
    }
    Ok(ExitCode::SUCCESS)
}
