//! `souk registry`: a registry alone.

use std::process::ExitCode;

use crate::cli::{RegistryArgs, put_list_over};
use crate::config::Config;
use crate::roles::control_plane;

pub(crate) async fn run(mut config: Config, flags: RegistryArgs) -> anyhow::Result<ExitCode> {
    flags.process.put_over(&mut config);
    put_list_over(&flags.bases, &mut config.registry.base_files);
    config.check()?;
    Box::pin(control_plane::run(config, flags.admin_key_file.as_deref())).await?;
    Ok(ExitCode::SUCCESS)
}
