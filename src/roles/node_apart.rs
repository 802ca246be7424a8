//! A node apart: it runs a base model for the gateways of its pool. Its jobs come by the queue in Redis, files of adapters
//! from registries with what came in a job, and what comes of a job goes to its gateway by a stream that the node opens.
//!
//! The port for operators is open from the beginning, so that whoever watches the process sees that it loads; `/ready` says
//! when it takes jobs.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use souk_http::draining::Draining;
use souk_http::serve::{self, Server};
use souk_node::node::Node;
use souk_protocol::PoolId;
use souk_registries::Registries;
use souk_wire::Dialer;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::boot::Timeline;
use super::node::RunningNode;
use super::node_seen::NodeSeen;
use super::signals::Signals;
use super::{LAST_WORDS, listening, node, registries, routes};
use crate::config::{Config, Role};
use crate::ports::{adapter_files, events, redis_queue};
use crate::telemetry;

/// Runs until SIGTERM, Ctrl-C or an order to drain, then drains. `began` is when the process did.
///
/// # Errors
/// What keeps the node from starting; after that, what breaks the listener.
pub(crate) async fn run(config: Config, began: Instant) -> anyhow::Result<()> {
    let timeline = Timeline::new(began);
    telemetry::start_logging(&config)?;
    config.say_what_is_unused(Role::Node);
    let descriptors = serve::raise_limit();
    let metrics = telemetry::start_metrics()?;
    let _keeping_up = AbortOnDropHandle::new(tokio::spawn(metrics.clone().keep_up()));
    let registries = Registries::new(&registries::of_node(&config.node)?).context("the registries cannot be asked")?;
    let queue = redis_queue::open(&config)?;
    timeline.done("settings read");

    let signals = Signals::listen()?;
    let (server, seen) = (Server::new(config.server.clone(), descriptors), NodeSeen::default());
    let router = routes::of_node(seen.clone(), metrics);
    let _listening = listening::listen(&server, &config.server, router).await?;
    timeline.done("port opened");

    let base = node::load_base_telling(&config, timeline.notes_model()).await?;
    timeline.done("weights packed");
    let (id, pool) = (config.node.node_id(), PoolId(base.model.digest));
    let dialer = events::to_gateways(&config.wire, &id, pool, registries.clone())?;
    let source = adapter_files::from_registries(registries, config.node.direct_files);
    let ports = node::Ports { queue, events: Arc::new(dialer.clone()), source };
    let RunningNode { node, .. } = node::start(&config, base, id, ports)?;
    timeline.done("engine ready");
    let node = Arc::new(node);
    tracing::info!(node.id = %node.id(), pool = %pool.0, "The node {} takes jobs of the pool {}", node.id(), pool.0);
    seen.runs(Arc::clone(&node));
    let _timeline = AbortOnDropHandle::new(tokio::spawn(timeline.follow(Arc::clone(&node))));

    let ordered = Arc::clone(&node);
    let drained = drain(node, dialer, server, seen.draining, config.server.drain_timeout);
    signals.or(async move { ordered.draining().await }).then(drained).await
}

/// Claims no more, hands over what runs or lets it end, and returns, all within `drain_timeout`.
async fn drain(node: Arc<Node>, dialer: Dialer, server: Server, draining: Draining, drain_timeout: Duration) {
    let deadline = Instant::now() + drain_timeout;
    draining.begin();
    let last_words = LAST_WORDS.min(drain_timeout / 4);
    if tokio::time::timeout_at(deadline, node.drain(drain_timeout - last_words)).await.is_err() {
        tracing::warn!("The node did not end in time");
    }
    tokio::time::timeout(last_words / 2, dialer.close()).await.ok();
    listening::close(server, Instant::now() + last_words / 2).await;
}
