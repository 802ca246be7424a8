//! The process' log and figures.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use souk_http::Exporter;

use crate::config::{Config, LogFormat};

/// Sends the log to standard error as the settings say.
///
/// # Errors
/// If the filter is not one.
pub(crate) fn start_logging(config: &Config) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log.filter)
        .with_context(|| format!("log.filter is not a filter: {}", config.log.filter))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match config.log.format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
    Ok(())
}

/// Counts from now on, and says what each figure means.
///
/// # Errors
/// If the process counts already.
pub(crate) fn start_metrics() -> anyhow::Result<Exporter> {
    let exporter = Exporter::install().context("cannot set up metrics")?;
    souk_http::serve::describe();
    souk_gateway::metrics::describe();
    souk_registry::metrics::describe();
    souk_registries::metrics::describe();
    souk_engine::figures::describe();
    souk_node::figures::describe();
    souk_plugins::figures::describe();
    souk_wire::metrics::describe();
    crate::roles::boot::describe();
    Ok(exporter)
}
