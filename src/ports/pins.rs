//! Has the nodes keep the adapters of `adapters.pinned` on the device. Names are looked up anew now and then, since
//! tags move.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use souk_protocol::{AdapterRef, PoolId};
use souk_queue::{JobQueue, NodeOrder};
use souk_registry::Registry;

/// How soon a tag that moved, or an adapter that was published later, is noticed.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Orders that what the settings name is pinned, until it is dropped.
pub(crate) async fn keep(names: Vec<AdapterRef>, registry: Registry, queue: Arc<dyn JobQueue>, pool: PoolId) {
    let mut told = BTreeMap::new();
    loop {
        let mut digests = Vec::new();
        let mut problems = BTreeMap::new();
        for name in &names {
            match registry.resolve_for_operator(name).await {
                Ok(resolved) => digests.push(resolved.digest),
                Err(error) => drop(problems.insert(name.to_string(), error.to_string())),
            }
        }
        if let Err(error) = queue.order(pool, NodeOrder::Pin(digests)).await {
            tracing::warn!(%error, "cannot say which adapters are pinned");
        }
        // Each problem is told when it appears, not each time it is found again.
        for (adapter, problem) in problems.iter().filter(|(adapter, problem)| told.get(*adapter) != Some(*problem)) {
            tracing::warn!(adapter, "An adapter of adapters.pinned is not pinned: {problem}");
        }
        told = problems;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
