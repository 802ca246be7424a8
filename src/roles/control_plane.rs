//! A registry alone: tenants, keys, adapters. No model is loaded; files say for which ones uploads may be made.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use souk_http::draining::Draining;
use souk_http::serve::{self, Server};
use souk_protocol::BaseModel;
use souk_registry::Registry;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::hooks::HookWorks;
use super::signals::Signals;
use super::{LAST_WORDS, listening, operators_hooks, registry, routes};
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
    let bases = read_bases(&config)?;
    let registry = registry::open(&config, bases).await?;
    registry::show_first_key(&registry, admin_key_file).await?;
    registry.takes_hooks(HookWorks::start(&config)?.for_registry());
    let _installing = operators_hooks::install(&config, &registry);

    let signals = Signals::listen()?;
    let server = Server::new(config.server.clone(), descriptors);
    let draining = Draining::default();
    let router = routes::of_registry(registry.clone(), metrics, draining.clone());
    let _listening = listening::listen(&server, &config.server, router).await?;
    signals.then(drain(registry, server, draining, config.server.drain_timeout)).await
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

/// The base models that uploads may be made for.
fn read_bases(config: &Config) -> anyhow::Result<Vec<BaseModel>> {
    let files = &config.registry.base_files;
    anyhow::ensure!(
        !files.is_empty(),
        "registry.base_files must name at least one file, as `souk models describe` writes it; given none"
    );
    let mut bases = Vec::<BaseModel>::new();
    for path in files {
        let shown = path.display();
        let file = File::open(path).with_context(|| format!("registry.base_files: {shown} cannot be opened"))?;
        let base: BaseModel = serde_json::from_reader(BufReader::new(file))
            .with_context(|| format!("registry.base_files: {shown} is not what `souk models describe` writes"))?;
        if let Some(other) = bases.iter().find(|other| other.id == base.id || other.digest == base.digest) {
            anyhow::bail!("registry.base_files: {shown} describes `{}`, as another file does `{}`", base.id, other.id);
        }
        bases.push(base);
    }
    Ok(bases)
}
