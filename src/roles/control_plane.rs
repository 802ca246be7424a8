//! A registry alone: tenants, keys, adapters. No model is loaded; files say for which ones uploads may be made.

use std::path::Path;
use std::time::Duration;

use souk_http::draining::Draining;
use souk_http::serve::{self, Server};
use souk_registry::Registry;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::hooks::HookWorks;
use super::signals::Signals;
use super::{LAST_WORDS, base_files, listening, operators_hooks, registry, routes};
use crate::config::{Config, Role};
use crate::telemetry;

/// Serves until SIGTERM or Ctrl-C, then drains. The admin key of the first start is also written to `admin_key_file`.
///
/// # Errors
/// What keeps the registry from starting; after that, what breaks the listener.
pub(crate) async fn run(config: Config, admin_key_file: Option<&Path>) -> anyhow::Result<()> {
    telemetry::start_logging(&config)?;
    config.say_what_is_unused(Role::Registry);
    let descriptors = serve::raise_limit();
    let metrics = telemetry::start_metrics()?;
    let _keeping_up = AbortOnDropHandle::new(tokio::spawn(metrics.clone().keep_up()));
    let bases = base_files::read("registry.base_files", &config.registry.base_files)?;
    let registry = registry::open(&config, bases).await?;
    registry::show_first_key(&registry, admin_key_file).await?;
    registry.takes_hooks(HookWorks::start(&config)?.for_registry());
    let _installing = operators_hooks::install(&config, &registry);

    let signals = Signals::listen()?;
    let server = Server::new(config.server.clone(), descriptors);
    let draining = Draining::default();
    let router = routes::of_registry(registry.clone(), metrics, draining.clone());
    let _listening = listening::listen(&server, &config.server, router).await?;
    Box::pin(signals.then(drain(registry, server, draining, config.server.drain_timeout))).await
}

/// Refuses changes, lets running requests end, and returns, all within `drain_timeout`.
async fn drain(registry: Registry, server: Server, draining: Draining, drain_timeout: Duration) {
    let deadline = Instant::now() + drain_timeout;
    draining.begin();
    registry.end_streams();
    listening::close(server, deadline - LAST_WORDS.min(drain_timeout / 4)).await;
    let left = deadline.saturating_duration_since(Instant::now()).max(LAST_WORDS);
    tokio::time::timeout(left, registry.close()).await.ok();
}
