//! The queue that gateways and nodes have in common: in Redis.

use std::sync::Arc;

use anyhow::Context as _;
use souk_queue::{JobQueue, RedisQueue};

use crate::config::Config;

/// Opens the queue. The Redis need not be there yet: until it is, requests are refused with 503 and nodes wait.
///
/// # Errors
/// If the settings name no Redis, or one that cannot be used.
pub(crate) fn open(config: &Config) -> anyhow::Result<Arc<dyn JobQueue>> {
    anyhow::ensure!(
        config.redis.is_set(),
        "redis.url must name the Redis that gateways and nodes apart have in common; given none"
    );
    let queue = RedisQueue::new(&config.redis, config.queue).context("the queue cannot be in this Redis")?;
    Ok(Arc::new(queue))
}
