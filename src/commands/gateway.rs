//! `souk gateway`: a gateway and a node, whose registries are elsewhere.

use std::process::ExitCode;

use crate::cli::GatewayArgs;
use crate::config::Config;
use crate::roles::data_plane;

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
    config.check()?;
    Box::pin(data_plane::run(config)).await?;
    Ok(ExitCode::SUCCESS)
}
