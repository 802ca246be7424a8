//! What a node can see of the jobs that come next.

use souk_protocol::{AdapterUse, Digest};
use souk_queue::Submission;

use crate::support::*;

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn with_adapters(names: &[&str], mut submission: Submission) -> Submission {
    submission.job.adapters =
        names.iter().map(|name| AdapterUse { digest: digest(name), weight: 1.0, grant: None }).collect();
    submission
}

async fn peek(queue: &Queue, by: &str, max_jobs: usize) -> Vec<Digest> {
    queue.peek(pool(), &node(by), max_jobs).await.unwrap().into_iter().map(|adapter| adapter.digest).collect()
}

fn digests(names: &[&str]) -> Vec<Digest> {
    names.iter().map(|name| digest(name)).collect()
}

pub(crate) async fn the_next_jobs_adapters_come_in_the_order_of_their_turn(queue: Queue) {
    assert_eq!(peek(&queue, "n1", 4).await, []);
    for name in ["a1", "a2", "a3"] {
        submit(&queue, with_adapters(&[name], job("a", 100))).await;
    }
    submit(&queue, with_adapters(&["b1", "both"], job("b", 10))).await;
    submit(&queue, with_adapters(&["both"], job("b", 10))).await;
    submit(&queue, job("b", 10)).await;
    let all = peek(&queue, "n1", 10).await;
    assert_eq!(peek(&queue, "n1", 10).await, all, "looking changes nothing");
    assert_eq!(peek(&queue, "n1", 2).await, digests(&["a1", "b1", "both"]));
    let mut claimed = Vec::new();
    for delivery in claim(&queue, "n1", 10).await {
        claimed.extend(delivery.job.adapters.iter().map(|adapter| adapter.digest));
    }
    let mut seen = Vec::new();
    claimed.retain(|digest| {
        !seen.contains(digest) && {
            seen.push(*digest);
            true
        }
    });
    assert_eq!(all, claimed, "what is claimed comes in the same order");
    assert_eq!(peek(&queue, "n1", 10).await, []);
}

pub(crate) async fn a_node_sees_its_own_lane_and_those_that_nobody_minds(queue: Queue) {
    heartbeat(&queue, "n1").await;
    heartbeat(&queue, "n2").await;
    submit(&queue, in_lane("n1", with_adapters(&["mine"], job("a", 10)))).await;
    submit(&queue, in_lane("n2", with_adapters(&["theirs"], job("a", 10)))).await;
    submit(&queue, in_lane("lost", with_adapters(&["orphan"], job("b", 10)))).await;
    submit(&queue, with_adapters(&["any"], job("c", 10))).await;
    let mut seen = peek(&queue, "n1", 10).await;
    let mut expected = digests(&["mine", "orphan", "any"]);
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
}
