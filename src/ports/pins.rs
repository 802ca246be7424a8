//! Has the nodes keep the adapters of `adapters.pinned` on the device. Names are looked up anew now and then, since
//! tags move.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use souk_protocol::{AdapterRef, Fetchable, PoolId, ResolveError, ResolvedAdapter};
use souk_queue::{JobQueue, NodeOrder};
use souk_registries::HttpCatalog;
use souk_registry::Registry;
use tokio_util::task::AbortOnDropHandle;

use crate::config::Config;

/// How soon a tag that moved, or an adapter that was published later, is noticed.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Who knows what the names of an operator's settings mean.
#[async_trait]
pub(crate) trait OperatorsNames: Send + Sync {
    /// What one means now.
    async fn look_up(&self, name: &AdapterRef) -> Result<ResolvedAdapter, ResolveError>;
}

#[async_trait]
impl OperatorsNames for Registry {
    async fn look_up(&self, name: &AdapterRef) -> Result<ResolvedAdapter, ResolveError> {
        self.resolve_for_operator(name).await
    }
}

#[async_trait]
impl OperatorsNames for HttpCatalog {
    async fn look_up(&self, name: &AdapterRef) -> Result<ResolvedAdapter, ResolveError> {
        self.resolve_for_operator(name).await
    }
}

/// Has the adapters of `adapters.pinned` kept on the device, if there are any, until it is dropped.
pub(crate) fn keep_all(
    config: &Config,
    known: Arc<dyn OperatorsNames>,
    queue: &Arc<dyn JobQueue>,
    pools: &[PoolId],
) -> Option<AbortOnDropHandle<()>> {
    let names = config.adapters.pinned.clone();
    let (queue, pools) = (Arc::clone(queue), pools.to_vec());
    let keep = |names| keep(names, known, queue, pools);
    (!names.is_empty()).then(|| AbortOnDropHandle::new(tokio::spawn(keep(names))))
}

async fn keep(names: Vec<AdapterRef>, known: Arc<dyn OperatorsNames>, queue: Arc<dyn JobQueue>, pools: Vec<PoolId>) {
    let mut told = BTreeMap::new();
    loop {
        let mut wanted = Vec::new();
        let mut problems = BTreeMap::new();
        for name in &names {
            match known.look_up(name).await {
                Ok(ResolvedAdapter { base, digest, grant, .. }) => {
                    wanted.push((PoolId(base), Fetchable { digest, grant }));
                }
                Err(error) => drop(problems.insert(name.to_string(), error.to_string())),
            }
        }
        for pool in &pools {
            let of_pool = wanted.iter().filter(|(of, _)| of == pool).map(|(_, wanted)| wanted.clone()).collect();
            if let Err(error) = queue.order(*pool, NodeOrder::Pin(of_pool)).await {
                tracing::warn!(%error, "cannot say which adapters are pinned");
            }
        }
        // Each problem is told when it appears, not each time it is found again.
        for (adapter, problem) in problems.iter().filter(|(adapter, problem)| told.get(*adapter) != Some(*problem)) {
            tracing::warn!(adapter, "An adapter of adapters.pinned is not pinned: {problem}");
        }
        told = problems;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
