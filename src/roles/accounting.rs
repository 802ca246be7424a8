//! What the data plane counts usage with: limits and repeats in this process's memory or in a Redis, and the journal.

use std::sync::Arc;

use anyhow::Context as _;
use souk_gateway::{Accounting, AccountingParts, JournalSettings, UsageStore};
use souk_limits::{Limits, MemoryLimits, RedisLimits, Repeats};

use crate::config::Config;

/// Opens the journal of this process, whose rows go to `store`.
///
/// # Errors
/// If the settings of Redis or the journal's folder cannot be used.
pub(crate) async fn open(config: &Config, store: Arc<dyn UsageStore>) -> anyhow::Result<Accounting> {
    let (limits, repeats) = limits(config).await?;
    let journal = JournalSettings { folder: config.data.journal()?, max_bytes: config.gateway.journal_bytes };
    let opened = Accounting::open(AccountingParts { limits, repeats, store, journal }).await;
    opened.context("usage cannot be counted")
}

async fn limits(config: &Config) -> anyhow::Result<(Arc<dyn Limits>, Arc<dyn Repeats>)> {
    let max_repeat_bytes = config.gateway.kept_answer_bytes;
    if !config.redis.is_set() {
        let limits = Arc::new(MemoryLimits::new(max_repeat_bytes));
        return Ok((Arc::clone(&limits) as Arc<dyn Limits>, limits));
    }
    let limits = Arc::new(RedisLimits::new(&config.redis, max_repeat_bytes).context("[redis] cannot be used")?);
    // Whom no limit binds is served without it; whoever is bound waits for it.
    if let Err(error) = limits.connect().await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "Redis cannot be reached yet; limits are shut until it can"
        );
    }
    Ok((Arc::clone(&limits) as Arc<dyn Limits>, limits))
}
