//! What gateways say of the adapters that are asked for.

use souk_protocol::{Digest, Fetchable, FileGrant, GatewayId, PoolId};
use souk_queue::{MOST_POPULAR_NAMED, POPULAR_FOR, Popular};

use crate::support::*;

fn adapter(name: usize, grant: &str) -> Fetchable {
    Fetchable { digest: Digest::of(&name.to_le_bytes()), grant: Some(FileGrant::new(grant)) }
}

fn popular(name: usize, jobs: f64) -> Popular {
    Popular { adapter: adapter(name, "grant"), jobs }
}

async fn say(queue: &Queue, gateway: &str, adapters: Vec<Popular>) {
    queue.say_popular(pool(), &GatewayId::from_stored(gateway), adapters).await.unwrap();
}

async fn most(queue: &Queue, most: usize) -> Vec<Fetchable> {
    queue.popular(pool(), most).await.unwrap()
}

pub(crate) async fn what_is_asked_for_most_is_what_all_gateways_say_together(queue: Queue) {
    assert_eq!(most(&queue, 9).await, []);
    say(&queue, "g1", vec![popular(1, 5.0), popular(2, 3.5)]).await;
    say(&queue, "g2", vec![popular(3, 6.0), popular(2, 3.0)]).await;
    let of = |names: &[usize]| names.iter().map(|name| adapter(*name, "grant")).collect::<Vec<_>>();
    assert_eq!(most(&queue, 9).await, of(&[2, 3, 1]));
    assert_eq!(most(&queue, 2).await, of(&[2, 3]));
    let elsewhere = queue.popular(PoolId(Digest::of(b"another")), 9).await.unwrap();
    assert_eq!(elsewhere, [], "pools have nothing in common");
    // What a gateway says takes the place of what it said before.
    say(&queue, "g1", Vec::new()).await;
    assert_eq!(most(&queue, 9).await, of(&[3, 2]));
}

pub(crate) async fn what_a_gateway_says_no_more_is_forgotten(queue: Queue) {
    say(&queue, "g1", vec![popular(1, 5.0)]).await;
    pass(&queue, POPULAR_FOR / 2).await;
    say(&queue, "g2", vec![popular(2, 1.0)]).await;
    assert_eq!(most(&queue, 9).await.len(), 2);
    pass(&queue, POPULAR_FOR / 2).await;
    assert_eq!(most(&queue, 9).await, [adapter(2, "grant")]);
    pass(&queue, POPULAR_FOR / 2).await;
    assert_eq!(most(&queue, 9).await, []);
}

pub(crate) async fn a_gateway_names_so_many_and_no_more(queue: Queue) {
    let all = (0..MOST_POPULAR_NAMED + 5).map(|name| popular(name, 1000.0 - name as f64)).collect();
    say(&queue, "g1", all).await;
    let said = most(&queue, usize::MAX).await;
    assert_eq!((said.len(), &said[0]), (MOST_POPULAR_NAMED, &adapter(0, "grant")));
}
