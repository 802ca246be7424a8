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
    fill(&queue, &["a", "b"]).await;
    let full = refusal(&queue, "a").await;
    assert_eq!((full.scope, full.limit, full.queued), (FullScope::TenantQueued, 44, 44), "an eighth is not theirs");
    for number in 0..12 {
        submit(&queue, job(&format!("newcomer-{number}"), 10)).await;
    }
    let full = refusal(&queue, "one too many").await;
    assert_eq!((full.scope, full.limit, full.queued), (FullScope::PoolQueued, 100, 100));
}

pub(crate) async fn however_many_jobs_others_have_a_tenant_without_any_gets_in(queue: Queue) {
    fill(&queue, &["a", "b", "c", "d"]).await;
    submit(&queue, job("newcomer", 10)).await;
    assert_eq!(refusal(&queue, "newcomer").await.scope, FullScope::PoolQueued, "its second is one of the others");
    let fifth = |jobs: usize| jobs == 88 / 5;
    // What is taken from the queue goes to those who have less than an even part, until they have it.
    let mut of_newcomer = 1;
    for _ in 0..90 {
        let delivery = claim_one(&queue, "n").await;
        let tenant = delivery.job.tenant.to_string();
        finish(&queue, &delivery, 1).await;
        if queue.submit(job(&tenant, 10)).await.is_ok() && tenant == "newcomer" {
            continue;
        }
        of_newcomer += usize::from(!fifth(of_newcomer) && queue.submit(job("newcomer", 10)).await.is_ok());
    }
    assert!(of_newcomer > 1, "{of_newcomer}");
}

pub(crate) async fn a_job_that_comes_back_keeps_its_place_in_a_full_queue(queue: Queue) {
    submit(&queue, job("a", 10)).await;
    let running = claim_one(&queue, "n").await;
    fill(&queue, &["a", "b"]).await;
    fail(&queue, &running).await;
    let stats = queue.stats(pool()).await.unwrap();
    assert_eq!((stats.queued, stats.running), (89, 0), "one more than may come new");
    assert_eq!(claim_one(&queue, "n").await.lease.job, running.lease.job, "and it is as old as it was");
}

/// Submits jobs of these tenants in turn until each of them is refused.
async fn fill(queue: &Queue, tenants: &[&str]) {
    let mut are_open = vec![true; tenants.len()];
    while are_open.contains(&true) {
        for (tenant, is_open) in tenants.iter().zip(&mut are_open) {
            *is_open = queue.submit(job(tenant, 10)).await.is_ok();
        }
    }
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
