//! `souk registry`: a registry alone.

use std::process::ExitCode;

use crate::cli::RegistryArgs;
use crate::config::Config;
use crate::roles::control_plane;

pub(crate) async fn run(mut config: Config, flags: RegistryArgs) -> anyhow::Result<ExitCode> {
    if let Some(listen) = &flags.listen {
        config.server.listen.clone_from(listen);
    }
    if let Some(folder) = &flags.data_dir {
        config.data.dir = folder.display().to_string();
    }
    if !flags.bases.is_empty() {
        config.registry.base_files.clone_from(&flags.bases);
    }
    config.check()?;
    Box::pin(control_plane::run(config, flags.admin_key_file.as_deref())).await?;
    Ok(ExitCode::SUCCESS)
}
