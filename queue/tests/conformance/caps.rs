//! Admission.

use std::time::Duration;

use souk_queue::{FullScope, JobState, QueueError, QueueFull, Submitted};

use crate::support::*;

async fn refusal(queue: &Queue, tenant: &str) -> QueueFull {
    match queue.submit(job(tenant, 10)).await {
        Err(QueueError::Full(full)) => full,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_tenant_over_its_cap_is_refused_with_the_numbers(queue: Queue) {
    for _ in 0..60 {
        submit(&queue, job("a", 10)).await;
    }
    let full = refusal(&queue, "a").await;
    assert_eq!((full.scope, full.limit, full.queued), (FullScope::TenantQueued, 60, 60));
    assert!((Duration::from_secs(1)..=Duration::from_secs(60)).contains(&full.retry_after));
    submit(&queue, job("b", 10)).await;
    claim_one(&queue, "n").await;
    submit(&queue, job("a", 10)).await;
}

pub(crate) async fn a_full_pool_refuses_everyone(queue: Queue) {
    for _ in 0..50 {
        submit(&queue, job("a", 10)).await;
        submit(&queue, job("b", 10)).await;
    }
    let full = refusal(&queue, "newcomer").await;
    assert_eq!((full.scope, full.limit, full.queued), (FullScope::PoolQueued, 100, 100));
}

pub(crate) async fn running_jobs_count_where_the_cap_says_so(queue: Queue) {
    for _ in 0..60 {
        submit(&queue, job("a", 10)).await;
    }
    let running = claim(&queue, "n", 20).await;
    for _ in 0..10 {
        submit(&queue, job("a", 10)).await;
    }
    let full = refusal(&queue, "a").await;
    assert_eq!((full.scope, full.limit, full.queued), (FullScope::TenantInFlight, 70, 70));
    finish(&queue, &running[0], 1).await;
    submit(&queue, job("a", 10)).await;
}

pub(crate) async fn submitting_twice_queues_once(queue: Queue) {
    let twice = job("a", 10);
    submit(&queue, twice.clone()).await;
    let again = || queue.submit(twice.clone());
    assert_eq!(again().await.unwrap(), Submitted::Already(JobState::Queued));
    let delivery = claim_one(&queue, "n").await;
    assert_eq!(again().await.unwrap(), Submitted::Already(JobState::Running));
    nothing_to_claim(&queue, "n").await;
    finish(&queue, &delivery, 1).await;
    assert_eq!(again().await.unwrap(), Submitted::Already(JobState::Over));
    nothing_to_claim(&queue, "n").await;
}

pub(crate) async fn a_refused_job_leaves_nothing_behind(queue: Queue) {
    for _ in 0..60 {
        submit(&queue, job("a", 10)).await;
    }
    let refused = job("a", 10);
    assert!(queue.submit(refused.clone()).await.is_err());
    claim_one(&queue, "n").await;
    assert_eq!(queue.submit(refused).await.unwrap(), Submitted::Queued, "not `Already`");
    assert_eq!(queue.stats(pool()).await.unwrap().queued, 60);
}
