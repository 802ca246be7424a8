//! `souk serve`: every role in this process.

use std::process::ExitCode;

use souk_protocol::settings::SettingsError;

use crate::cli::ServeArgs;
use crate::config::Config;
use crate::roles::all;

pub(crate) async fn run(config: Config, flags: ServeArgs) -> anyhow::Result<ExitCode> {
    // What starting takes is too much for the stack of whoever runs this.
    Box::pin(all::run(with_flags(config, &flags)?, flags.admin_key_file.as_deref())).await?;
    Ok(ExitCode::SUCCESS)
}

/// The settings with the flags of `souk serve` over them.
fn with_flags(mut config: Config, flags: &ServeArgs) -> Result<Config, SettingsError> {
    flags.process.put_over(&mut config);
    flags.model.put_over(&mut config);
    config.check()?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn a_flag_is_held_to_the_limits_of_its_setting() {
        let serve = |flags: &[&str]| {
            let cli = Cli::try_parse_from([&["souk", "serve"], flags].concat()).unwrap();
            let Command::Serve(flags) = cli.command else { panic!("another command") };
            with_flags(Config::load(None, std::iter::empty()).unwrap(), &flags)
        };
        assert_eq!(serve(&["--threads", "2"]).unwrap().engine.threads, 2);
        let error = serve(&["--threads", "5000"]).unwrap_err().to_string();
        assert!(error.contains("engine.threads") && error.contains("5000"), "{error}");
    }
}
