//! Random floods: whoever has nothing in the queue gets in.

use proptest::prelude::*;
use souk_queue::{QueueConfig, Settlement};

use crate::model::{Op, in_memory, op};
use crate::support::*;

/// Four tenants submit and claim; after each act another asks for one place, and gives it back.
async fn flood(queue: Queue, config: QueueConfig, ops: Vec<Op>) {
    let mut deliveries = Vec::new();
    for op in ops {
        match op {
            Op::Submit { tenant, prompt, .. } => {
                for _ in 0..prompt {
                    let _ = queue.submit(job(&tenant.to_string(), 1)).await;
                }
            }
            Op::Claim { node, max_jobs } => deliveries.extend(claim(&queue, &node.to_string(), max_jobs.into()).await),
            Op::Fail { .. } | Op::GiveBack { .. } => {
                if let Some(delivery) = deliveries.pop() {
                    let _ = queue.settle(pool(), &delivery.lease, Settlement::GiveBack).await;
                }
            }
            _ => deliveries.truncate(deliveries.len() / 2),
        }
        let newcomer = job("newcomer", 1);
        let id = newcomer.job.id.clone();
        let came_back = queue.stats(pool()).await.unwrap().queued.saturating_sub(config.max_queued * 7 / 8);
        let submitted = queue.submit(newcomer).await;
        // Only jobs that came back can be more than what others may have.
        assert!(submitted.is_ok() || came_back > 0, "{submitted:?}");
        queue.cancel(pool(), &id).await.unwrap();
    }
}

fn flood_config(max_queued: usize, max_queued_per_tenant: usize) -> QueueConfig {
    QueueConfig { max_queued, max_queued_per_tenant, max_in_flight_per_tenant: None, ..config() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_others_put_into_the_queue_a_tenant_that_has_nothing_there_gets_in(
        max_queued in 2usize..40, per_tenant in 1usize..50, ops in prop::collection::vec(op(), 1..120),
    ) {
        let config = flood_config(max_queued, per_tenant);
        in_memory(config, async |queue| flood(queue, config, ops).await);
    }
}

#[cfg(has_redis)]
proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn in_redis_whatever_others_put_in_a_tenant_that_has_nothing_there_gets_in(
        max_queued in 2usize..40, per_tenant in 1usize..50, ops in prop::collection::vec(op(), 1..40),
    ) {
        let config = flood_config(max_queued, per_tenant);
        crate::model::in_redis(config, async |queue| flood(queue, config, ops).await);
    }
}
