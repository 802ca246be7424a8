//! `souk gateway`: a gateway whose registries are elsewhere, and a node, unless nodes are apart.

use std::process::ExitCode;

use souk_gateway::NodesAre;

use crate::cli::{GatewayArgs, put_list_over};
use crate::config::Config;
use crate::roles::{data_plane, gateway_apart};

pub(crate) async fn run(mut config: Config, flags: GatewayArgs) -> anyhow::Result<ExitCode> {
    flags.process.put_over(&mut config);
    flags.model.put_over(&mut config);
    flags.registries.put_over(&mut config.gateway.registries);
    put_list_over(&flags.bases, &mut config.gateway.base_files);
    config.check()?;
    match config.gateway.nodes {
        NodesAre::Inside => Box::pin(data_plane::run(config)).await?,
        NodesAre::Apart => Box::pin(gateway_apart::run(config)).await?,
    }
    Ok(ExitCode::SUCCESS)
}
