//! `souk serve`: every role in this process.

use std::process::ExitCode;

use crate::cli::ServeArgs;
use crate::config::Config;
use crate::roles::all;

pub(crate) async fn run(config: Config, flags: ServeArgs) -> anyhow::Result<ExitCode> {
    all::run(with_flags(config, &flags), flags.admin_key_file.as_deref()).await?;
    Ok(ExitCode::SUCCESS)
}

/// The settings with the flags of `souk serve` over them.
fn with_flags(mut config: Config, flags: &ServeArgs) -> Config {
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
    config
}
