//! What gateways have left that are gone: each of their requests is written down by one that lives, by what the queue says of its jobs.
//!
//! ```text
//! adopt        a request of a lost gateway's, none of whose jobs is open     -> held at the limits, journal, writer
//! acknowledge  what is written, one's own and others', so that nobody else writes it
//! resolve      what a process before had opened and not settled: left to others as long as the queue knows of it, else lost and free
//! ```
//!
//! What happens when: a gateway that was given a request and dies leaves it to the next, after
//! [`WRITE_DOWN`](souk_queue::WRITE_DOWN). A gateway that was taken for lost and was not writes its requests, too: the database takes
//! the first of the two. A queue that lost its data knows of nothing that is over; what was under way in a process that died by
//! then is free.

use std::sync::Arc;
use std::time::Duration;

use souk_protocol::{GatewayId, PoolId, RequestId, wall_clock};
use souk_queue::{JobQueue, Orphan, QueueError};

use super::book::book;
use crate::metrics;
use crate::usage::Accounting;
use crate::usage::opened::Opened;

/// Longest wait in one call; only bounds how long a dead connection can go unnoticed.
const WAIT: Duration = Duration::from_secs(30);
/// Pause after the queue could not be reached.
const PAUSE: Duration = Duration::from_secs(1);
/// How often it is asked whether others are done with what a process before had opened.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Writes down what others leave in a pool, for ever.
pub(crate) async fn adopt(accounting: Accounting, queue: Arc<dyn JobQueue>, pool: PoolId, gateway: GatewayId) {
    loop {
        match queue.next_orphaned(pool, &gateway, WAIT).await {
            Ok(orphans) => {
                for orphan in orphans {
                    adopt_one(&accounting, pool, orphan).await;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot ask the queue what lost gateways have left");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn adopt_one(accounting: &Accounting, pool: PoolId, orphan: Orphan) {
    let request = &orphan.request;
    match Opened::left(&orphan, wall_clock::unix_ms()) {
        Ok(record) => {
            if accounting.adopt(record.clone()).await {
                metrics::adopted();
                tracing::info!(%request, jobs = record.jobs.len(), "a request of a gateway that is gone is written down");
                record.jobs.iter().for_each(book);
            }
        }
        Err(error) => {
            let cause = &error as &dyn std::error::Error;
            tracing::error!(%request, error = cause, "What a gateway has left says nothing; the request will be free");
            accounting.posted().push(pool, [orphan.request]);
        }
    }
}

/// Tells the queue of a pool what is written, for ever.
pub(crate) async fn acknowledge(accounting: Accounting, queue: Arc<dyn JobQueue>, pool: PoolId) {
    loop {
        let posted = accounting.posted().next(pool).await;
        match queue.acknowledge(pool, &posted).await {
            Ok(()) => accounting.posted().done(pool, &posted),
            Err(error) => {
                tracing::warn!(%error, requests = posted.len(), "the queue cannot be told what is written");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Finds out what became of all that processes before had opened and not settled.
pub(crate) async fn resolve(accounting: Accounting, queue: Arc<dyn JobQueue>) {
    loop {
        let left = accounting.left_open();
        if left.is_empty() {
            return;
        }
        if let Err(error) = resolve_now(&accounting, queue.as_ref(), &left).await {
            tracing::warn!(%error, requests = left.len(), "cannot ask the queue what became of requests of processes before");
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Gives up what the queue does not know (any more). Who has written it down has its row in the database by then, which is left
/// as it is.
async fn resolve_now(accounting: &Accounting, queue: &dyn JobQueue, left: &[Opened]) -> Result<(), QueueError> {
    let mut pools: Vec<PoolId> = left.iter().map(|opened| opened.base).collect();
    pools.sort_unstable_by(|one, other| one.0.as_bytes().cmp(other.0.as_bytes()));
    pools.dedup();
    for pool in pools {
        let of_pool: Vec<&Opened> = left.iter().filter(|opened| opened.base == pool).collect();
        let requests: Vec<RequestId> = of_pool.iter().map(|opened| opened.head.request.clone()).collect();
        let known = queue.unposted(pool, &requests).await?;
        for opened in of_pool.into_iter().filter(|opened| !known.contains(&opened.head.request)) {
            accounting.lose(opened).await;
        }
    }
    Ok(())
}
