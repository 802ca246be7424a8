//! Keeps the adapters of `adapters.pinned` on the device. Names are looked up anew now and then, since tags move.

use std::collections::BTreeMap;
use std::time::Duration;

use souk_node::adapters::Pins;
use souk_protocol::{AdapterRef, Digest};
use souk_registry::Registry;

/// How soon a tag that moved, or an adapter that was published later, is noticed.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Pins what the settings name, until it is dropped.
pub(crate) async fn keep(names: Vec<AdapterRef>, registry: Registry, mut pins: Pins) {
    let mut told = BTreeMap::new();
    loop {
        let mut digests: Vec<(String, Digest)> = Vec::new();
        let mut problems = BTreeMap::new();
        for name in &names {
            match registry.resolve_for_operator(name).await {
                Ok(resolved) => digests.push((name.to_string(), resolved.digest)),
                Err(error) => drop(problems.insert(name.to_string(), error.to_string())),
            }
        }
        let wanted: Vec<_> = digests.iter().map(|(_, digest)| *digest).collect();
        for (refused, error) in pins.set(&wanted).await {
            let named = digests.iter().filter(|(_, digest)| *digest == refused);
            problems.extend(named.map(|(name, _)| (name.clone(), error.to_string())));
        }
        // Each problem is told when it appears, not each time it is found again.
        for (adapter, problem) in problems.iter().filter(|(adapter, problem)| told.get(*adapter) != Some(*problem)) {
            tracing::warn!(adapter, "An adapter of adapters.pinned is not pinned: {problem}");
        }
        told = problems;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
