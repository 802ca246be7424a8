//! What a gateway does with lost attempts: its jobs are taken back from their nodes at once, with all tokens that have come,
//! so that others go on from there; the client sees a pause.
//!
//! What happens when: the queue fences the lost attempt, so whatever its node still says or settles counts nothing. Where the
//! attempt is not the live one any more (its lease had lapsed, or its node gave it back and was quicker) there is nothing
//! to take. While the queue cannot be reached it is tried again, for as long as somebody waits for the answer; a lease that
//! lapses meanwhile comes to the same, only later. It does not depend on how fast a client reads.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use souk_protocol::{JobId, PoolId};

use crate::events::{Loss, Losses};
use crate::port::JobQueue;

/// Jobs that are taken back at once: a node's whole batch takes a few round trips.
const AT_ONCE: usize = 64;
/// Pause after the queue could not be reached.
const PAUSE: Duration = Duration::from_millis(200);

/// Takes jobs back as their attempts are lost, for ever. `pool_of` says where a job waits, as long as somebody waits for its
/// answer; `told` hears of each loss whether its job was taken back for it.
pub async fn take_back_losses(
    losses: Losses,
    queue: Arc<dyn JobQueue>,
    pool_of: impl Fn(&JobId) -> Option<PoolId> + Sync,
    told: impl Fn(bool) + Sync,
) {
    let losses = futures::stream::unfold(losses, |mut losses| async { Some((losses.next().await, losses)) });
    losses.for_each_concurrent(AT_ONCE, |loss| take_back(loss, queue.as_ref(), &pool_of, &told)).await;
}

async fn take_back(loss: Loss, queue: &dyn JobQueue, pool_of: impl Fn(&JobId) -> Option<PoolId>, told: impl Fn(bool)) {
    let Loss { job, attempt, tokens, .. } = &loss;
    while let Some(pool) = pool_of(job) {
        match queue.take_back(pool, job, *attempt, tokens.clone()).await {
            Ok(is_taken) => {
                told(is_taken);
                tracing::info!(%job, attempt, tokens = tokens.len(), is_taken, "an attempt was lost; another goes on");
                return;
            }
            Err(error) => {
                tracing::warn!(%error, %job, "cannot take back a job whose attempt was lost");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
