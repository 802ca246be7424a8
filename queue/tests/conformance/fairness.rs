//! Whose turn it is.

use std::collections::HashMap;

use souk_queue::Priority;

use crate::support::*;

pub(crate) async fn one_tenants_flood_does_not_delay_another(queue: Queue) {
    for _ in 0..50 {
        submit(&queue, job("flood", 100)).await;
    }
    let first = claim_one(&queue, "n").await;
    finish(&queue, &first, 10).await;
    let other = submit(&queue, job("other", 100)).await;
    // The newcomer starts level with the flood: one more flood job may come first, not the 49 that are older.
    let next: Vec<_> = claim(&queue, "n", 2).await.into_iter().map(|delivery| delivery.lease.job).collect();
    assert!(next.contains(&other));
}

pub(crate) async fn a_node_full_of_one_tenants_work_takes_one_job_of_each_other(queue: Queue) {
    for tenant in ["flood", "flood", "flood", "b", "b", "c"] {
        submit(&queue, job(tenant, 10)).await;
    }
    let tenants = |deliveries: Vec<souk_queue::Delivery>| {
        deliveries.iter().map(|delivery| delivery.job.tenant.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(tenants(claim(&queue, "n", 1).await), ["flood"]);
    assert_eq!(tenants(queue.claim(wish("n", 0, 1)).await.unwrap()), ["b"], "by the same order");
    assert_eq!(tenants(queue.claim(wish("n", 0, 9)).await.unwrap()), ["c"], "b is no newcomer any more");
    assert!(queue.claim(wish("n", 0, 9)).await.unwrap().is_empty());
    assert_eq!(
        tenants(queue.claim(wish("m", 0, 9)).await.unwrap()),
        ["flood", "b"],
        "another node holds none of theirs"
    );
}

pub(crate) async fn a_wait_for_newcomers_hears_only_of_them(queue: Queue) {
    submit(&queue, job("flood", 10)).await;
    let held = claim_one(&queue, "n").await;
    submit(&queue, job("flood", 10)).await;
    assert!(!queue.wait(&wish("n", 0, 1), STEAL_AFTER).await.unwrap());
    let waiting = {
        let queue = queue.clone();
        tokio::spawn(async move { queue.wait(&wish("n", 0, 1), SOON).await.unwrap() })
    };
    submit(&queue, job("other", 10)).await;
    assert!(waiting.await.unwrap());
    queue.claim(wish("n", 0, 1)).await.unwrap();
    finish(&queue, &held, 1).await;
    assert!(queue.wait(&wish("n", 0, 1), SOON).await.unwrap(), "the flood's first is over, so its next is a newcomer");
    assert!(!queue.wait(&wish("n", 0, 0), STEAL_AFTER).await.unwrap(), "who wants nothing finds nothing");
}

pub(crate) async fn two_backlogged_tenants_get_the_same_service_within_the_bound(queue: Queue) {
    const NUM_RUNNING: usize = 4;
    let (short, long) = ((20, 30), (200, 60));
    let mut service: HashMap<String, f64> = HashMap::new();
    let mut running = std::collections::VecDeque::new();
    for _ in 0..42 {
        submit(&queue, job("short", short.0)).await;
        submit(&queue, job("long", long.0)).await;
    }
    // Until one tenant has nothing left to wait for: fairness is owed to the backlogged only.
    let mut largest_gap: f64 = 0.0;
    let mut left = HashMap::from([("short", 42), ("long", 42)]);
    while left.values().all(|left| *left > 0) {
        let delivery = claim_one(&queue, "n").await;
        let tenant = delivery.job.tenant.as_str().to_owned();
        *service.entry(tenant.clone()).or_default() += delivery.job.prompt.len() as f64;
        *left.get_mut(tenant.as_str()).unwrap() -= 1;
        running.push_back(delivery);
        if running.len() == NUM_RUNNING {
            let done = running.pop_front().unwrap();
            let tenant = done.job.tenant.as_str().to_owned();
            let output = if tenant == "short" { short.1 } else { long.1 };
            finish(&queue, &done, output).await;
            *service.entry(tenant).or_default() += 2.0 * f64::from(output);
        }
        let gap = service.get("short").unwrap_or(&0.0) - service.get("long").unwrap_or(&0.0);
        largest_gap = largest_gap.max(gap.abs());
    }
    let bound = 2.0 * f64::max(200.0, 2.0 * 60.0 * NUM_RUNNING as f64);
    assert!(largest_gap <= bound, "{largest_gap} > {bound}");
    // First come, first served would have let one side have 42 (200 + 120) - 42 (20 + 60) = 10,080 more.
    assert!(left["short"] == 0 && left["long"] > 28, "the short jobs come four times as often: {left:?}");
}

pub(crate) async fn a_heavier_job_costs_its_tenant_less(queue: Queue) {
    for _ in 0..40 {
        let mut heavy = job("heavy", 100);
        heavy.priority = Priority::percent(300).unwrap();
        submit(&queue, heavy).await;
        submit(&queue, job("plain", 100)).await;
    }
    let mut heavy = 0;
    for _ in 0..40 {
        let delivery = claim_one(&queue, "n").await;
        heavy += u32::from(delivery.job.tenant.as_str() == "heavy");
        finish(&queue, &delivery, 50).await;
    }
    assert!((28..=32).contains(&heavy), "three of four turns, got {heavy} of 40");
}

pub(crate) async fn a_tenant_that_paused_earns_no_credit(queue: Queue) {
    submit(&queue, job("paused", 10)).await;
    finish(&queue, &claim_one(&queue, "n").await, 0).await;
    for _ in 0..30 {
        submit(&queue, job("steady", 100)).await;
    }
    for _ in 0..10 {
        finish(&queue, &claim_one(&queue, "n").await, 50).await;
    }
    for _ in 0..20 {
        submit(&queue, job("paused", 100)).await;
    }
    let mut paused = 0;
    for _ in 0..10 {
        let delivery = claim_one(&queue, "n").await;
        paused += u32::from(delivery.job.tenant.as_str() == "paused");
        finish(&queue, &delivery, 50).await;
    }
    assert!((4..=6).contains(&paused), "they take turns, got {paused} of 10");
}

pub(crate) async fn jobs_of_one_tenant_come_in_order(queue: Queue) {
    let mut submitted = Vec::new();
    for number in 0..20 {
        submitted.push(submit(&queue, job("a", 10 + number)).await);
    }
    let mut claimed = Vec::new();
    while claimed.len() < submitted.len() {
        claimed.extend(claim(&queue, "n", 3).await.into_iter().map(|delivery| delivery.lease.job));
    }
    assert_eq!(claimed, submitted);
}

pub(crate) async fn reporting_progress_twice_charges_once(queue: Queue) {
    for _ in 0..10 {
        submit(&queue, job("a", 10)).await;
        submit(&queue, job("b", 10)).await;
    }
    let (first, second) = (claim_one(&queue, "n").await, claim_one(&queue, "n").await);
    // One reports its hundred tokens five times, the other once: both have had the same.
    for _ in 0..5 {
        assert!(renew(&queue, &first, 100).await);
    }
    assert!(renew(&queue, &second, 100).await);
    let next = claim(&queue, "n", 6).await;
    let of_first = next.iter().filter(|delivery| delivery.job.tenant == first.job.tenant).count();
    assert_eq!(of_first, 3);
}
