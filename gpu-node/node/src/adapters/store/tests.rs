mod disk;
mod grants;

use std::time::Duration;

use serde_json::json;
use souk_engine::device_memory::{MemoryConfig, SideLimits};

use super::super::samples::{GatedSource, SIZE_PER_RANK, adapter_files, ample_memory, base, files_of, weights};
use super::super::source::SourceError;
use super::super::waiting::MAX_OVERTAKES;
use souk_models::adapter::PackedAdapter;

use super::*;

fn limits(device_bytes: usize, host_bytes: usize) -> AdapterLimits {
    let first_retry_pause = Duration::from_millis(50);
    AdapterLimits { device_bytes, host_bytes, first_retry_pause, ..AdapterLimits::default() }
}

fn store(source: Arc<GatedSource>, limits: AdapterLimits) -> AdapterStore {
    AdapterStore::new(source, Arc::new(base()), Arc::new(weights()), limits, in_memory()).unwrap()
}

fn tenant() -> TenantId {
    TenantId::from_stored("tenant")
}

/// No disk, and more device memory than any test needs.
fn in_memory() -> Tiers {
    Tiers { memory: ample_memory(), disk: None }
}

/// A store over adapters of ranks 1, 2, 3, ... whose source is open for `num_open` fetches.
fn store_of(
    num_adapters: usize,
    num_open: usize,
    limits: AdapterLimits,
) -> (AdapterStore, Arc<GatedSource>, Vec<Digest>) {
    let (source, digests) = GatedSource::new((1..=num_adapters).map(|rank| adapter_files(rank, &json!({}))), num_open);
    (store(Arc::clone(&source), limits), source, digests)
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never came to this: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_ask_an_adapter_is_loaded_once() {
    let (store, source, digests) = store_of(2, 0, limits(4096, 4096));
    let ask = |digest: Digest| {
        let store = store.clone();
        tokio::spawn(async move { store.acquire(&digest).await })
    };
    let waiting: Vec<_> = (0..64).map(|index| ask(digests[index % 2])).collect();
    until("both loads wait", || source.num_fetches() == 2).await;
    source.gate.add_permits(2);
    for (index, lease) in waiting.into_iter().enumerate() {
        let lease = lease.await.unwrap().unwrap();
        assert_eq!(lease.digest(), digests[index % 2]);
        assert_eq!(lease.size_bytes, SIZE_PER_RANK * (index % 2 + 1));
    }
    assert_eq!(source.num_fetches(), 2);
    let stats = store.stats();
    assert_eq!((stats.totals.loads, stats.totals.misses, stats.resident.len()), (2, 64, 2));
    drop(store.acquire(&digests[0]).await.unwrap());
    assert_eq!(store.stats().totals.device_hits, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiter_that_goes_away_does_not_stop_the_load() {
    let (store, source, digests) = store_of(1, 0, limits(4096, 4096));
    let first = tokio::spawn({
        let (store, digest) = (store.clone(), digests[0]);
        async move { store.acquire(&digest).await }
    });
    until("the load waits", || source.num_fetches() == 1).await;
    let second = tokio::spawn({
        let (store, digest) = (store.clone(), digests[0]);
        async move { store.acquire(&digest).await }
    });
    until("both wait", || store.stats().totals.misses == 2).await;
    first.abort();
    source.gate.add_permits(1);
    assert!(second.await.unwrap().is_ok());
    assert!(first.await.unwrap_err().is_cancelled());
    until("the lease is back", || store.stats().resident[0].users == 0).await;

    // Even with no waiter left the adapter arrives, for the next request.
    let (store, source, digests) = store_of(1, 0, limits(4096, 4096));
    let only = tokio::time::timeout(Duration::from_millis(20), store.acquire(&digests[0])).await;
    assert!(only.is_err());
    source.gate.add_permits(1);
    until("it is resident", || store.stats().resident.len() == 1).await;
    assert_eq!(source.num_fetches(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_device_makes_a_request_wait_and_then_refuses_it_with_the_numbers() {
    let mut tight = limits(3 * SIZE_PER_RANK, 8 * SIZE_PER_RANK);
    tight.max_wait = Duration::from_millis(60);
    let (store, _, digests) = store_of(3, 9, tight);
    let lease = store.acquire(&digests[1]).await.unwrap();
    let refused = store.acquire(&digests[2]).await.unwrap_err();
    let AdapterError::NoRoom { needed_bytes, budget_bytes, in_use_bytes, waited_ms, .. } = refused else {
        panic!("{refused}");
    };
    assert_eq!((needed_bytes, budget_bytes, in_use_bytes), (3 * SIZE_PER_RANK, 3 * SIZE_PER_RANK, 2 * SIZE_PER_RANK));
    assert!(waited_ms >= 60);
    let next = tokio::spawn({
        let (store, digest) = (store.clone(), digests[2]);
        async move { store.acquire(&digest).await }
    });
    until("the large one waits", || {
        store.stats().resident.iter().any(|adapter| adapter.users > 0 && adapter.digest == digests[2])
    })
    .await;
    drop(lease);
    assert_eq!(next.await.unwrap().unwrap().digest(), digests[2]);
    assert_eq!(store.stats().totals.loads, 2, "it stayed in host memory");
}

#[tokio::test]
async fn an_adapter_larger_than_the_budget_is_refused_at_once() {
    let (store, source, digests) = store_of(4, 9, limits(3 * SIZE_PER_RANK, 99 * SIZE_PER_RANK));
    let refused = store.acquire(&digests[3]).await.unwrap_err();
    assert!(matches!(refused, AdapterError::TooLarge { .. }), "{refused}");
    // Neither is it read again for each request.
    let refused = store.acquire(&digests[3]).await.unwrap_err();
    assert!(matches!(refused, AdapterError::BackingOff { .. }), "{refused}");
    assert_eq!(source.num_fetches(), 1);
}

#[tokio::test]
async fn a_failed_load_is_tried_again_by_the_first_request_after_the_pause() {
    let (source, _) = GatedSource::new([], 9);
    let store = store(Arc::clone(&source), limits(4096, 4096));
    let absent = Digest::of(b"absent");
    for _ in 0..3 {
        let refused = store.acquire(&absent).await.unwrap_err();
        assert!(refused.to_string().contains("there is no adapter"), "{refused}");
    }
    assert_eq!(source.num_fetches(), 1);
    tokio::time::sleep(Duration::from_millis(60)).await;
    let refused = store.acquire(&absent).await.unwrap_err();
    assert!(matches!(refused, AdapterError::Source(SourceError::NotFound(_))), "{refused}");
    assert_eq!(source.num_fetches(), 2);
    assert_eq!(store.stats().totals.load_failures, 2);
}

#[tokio::test]
async fn another_base_and_files_that_are_no_adapter_are_refused_with_the_reason() {
    let good = adapter_files(2, &json!({}));
    let other_base = files_of(good.config.clone(), good.weights.clone(), Digest::of(b"other"));
    let wrong_rank = adapter_files(2, &json!({"r": 4}));
    let mut weights = good.weights.clone();
    let end = weights.len();
    weights[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    let with_nan = files_of(good.config, weights, Digest::of(b"tiny"));
    let (source, digests) = GatedSource::new([other_base, wrong_rank, with_nan], 9);
    let store = store(source, limits(4096, 4096));
    for (digest, reason) in digests.iter().zip(["base model", "rank is 4", "NaN"]) {
        let refused = store.acquire(digest).await.unwrap_err().to_string();
        assert!(refused.contains(reason), "{refused}");
    }
    assert_eq!(store.stats().totals.host_bytes, 0);
}

#[tokio::test]
async fn a_take_down_is_at_once_and_running_requests_end_in_peace() {
    let (store, source, digests) = store_of(2, 1, limits(4096, 4096));
    let lease = store.acquire(&digests[0]).await.unwrap();
    assert!(store.take_down(&digests[0]));
    assert!(!store.take_down(&digests[0]));
    assert!(matches!(store.acquire(&digests[0]).await, Err(AdapterError::TakenDown)));
    store.prefetch(&digests[0]);
    // So is one whose load is under way.
    let waiting = tokio::spawn({
        let (store, digest) = (store.clone(), digests[1]);
        async move { store.acquire(&digest).await }
    });
    until("a load waits", || source.num_fetches() == 2).await;
    assert!(store.take_down(&digests[1]));
    assert!(matches!(waiting.await.unwrap(), Err(AdapterError::TakenDown)));
    assert_eq!(lease.slabs::<PackedAdapter>().unwrap().layers.len(), 2);
    assert_eq!(store.stats().totals.device_bytes, SIZE_PER_RANK, "what runs counts until it ends");
    drop(lease);
    source.gate.add_permits(1);
    until("all is gone", || store.stats().totals.host_bytes == 0 && store.stats().resident.is_empty()).await;
    assert_eq!((source.num_fetches(), store.stats().totals.device_bytes), (2, 0), "and nothing was fetched again");
}

#[tokio::test]
async fn limits_that_contradict_themselves_are_refused() {
    let (source, _) = GatedSource::new([], 0);
    let new =
        |limits| AdapterStore::new(source.clone(), Arc::new(base()), Arc::new(weights()), limits, in_memory()).err();
    assert_eq!(new(limits(2, 1)), Some(LimitsError::HostBelowDevice { host_bytes: 1, device_bytes: 2 }));
    let no_loads = AdapterLimits { max_concurrent_loads: 0, ..limits(1, 1) };
    assert_eq!(new(no_loads), Some(LimitsError::Zero("max_concurrent_loads")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_for_many_adapters_in_little_memory_are_all_served() {
    let (store, _, digests) = store_of(12, 10_000, limits(14 * SIZE_PER_RANK, 20 * SIZE_PER_RANK));
    let tasks: Vec<_> = (0..24u64)
        .map(|task| {
            let (store, digests) = (store.clone(), digests.clone());
            tokio::spawn(async move {
                for step in 0..25u64 {
                    let digest = digests[((task * 7 + step * 5) % 12) as usize];
                    let lease = store.acquire(&digest).await.unwrap();
                    assert_eq!(lease.digest(), digest);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let stats = store.stats();
    assert!(stats.totals.device_evictions > 0 && stats.totals.host_evictions > 0);
    assert!(stats.resident.iter().all(|adapter| adapter.users == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_for_several_adapters_do_not_deadlock() {
    // Room for one pair and one more adapter: two requests that each held one of a pair and waited for the other would
    // deadlock.
    let (store, _, digests) = store_of(4, 10_000, limits(6 * SIZE_PER_RANK, 10 * SIZE_PER_RANK));
    let tasks: Vec<_> = (0..16usize)
        .map(|task| {
            let (store, digests) = (store.clone(), digests.clone());
            tokio::spawn(async move {
                for step in 0..25usize {
                    let pair = [digests[task % 2], digests[2 + (task / 2 + step) % 2]];
                    let leases = store.acquire_all(&tenant(), &pair[..1 + (task + step) % 2]).await.unwrap();
                    assert!(leases.iter().map(AdapterLease::digest).eq(pair[..leases.len()].iter().copied()));
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(store.stats().resident.iter().all(|adapter| adapter.users == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_several_is_served_past_one_that_waits_for_what_it_has_in_hand() {
    let forever = Duration::from_secs(3600);
    for host_ranks in [30, 6] {
        let limits = AdapterLimits { max_wait: forever, ..limits(6 * SIZE_PER_RANK, host_ranks * SIZE_PER_RANK) };
        let (store, _, digests) = store_of(6, 100, limits);
        let waits = |rank: usize| {
            let stats = store.stats();
            let there = stats.resident.iter().find(|adapter| adapter.digest == digests[rank - 1]);
            there.is_none_or(|adapter| adapter.tier == super::super::Tier::Host)
        };
        drop(store.acquire(&digests[0]).await.unwrap());
        let running = store.acquire(&digests[1]).await.unwrap();
        // One that takes the whole device is the first in the line.
        let whole = tokio::spawn({
            let (store, digest) = (store.clone(), digests[5]);
            async move { store.acquire(&digest).await.map(drop) }
        });
        until("it is in the line", || store.0.lock().somebody_waits()).await;
        // Another has the small one in hand, which the first needs gone, and gathers one more.
        let several = tokio::spawn({
            let (store, digests) = (store.clone(), [digests[0], digests[3]]);
            async move { store.acquire_all(&tenant(), &digests).await.map(drop) }
        });
        until("it has asked", || store.stats().totals.misses == 4).await;
        assert!(waits(6) && waits(4));
        drop(running);
        let both = async { (several.await.unwrap(), whole.await.unwrap()) };
        let both = tokio::time::timeout(Duration::from_secs(20), both).await.expect("they wait for each other");
        assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_several_and_a_load_that_needs_what_it_has_in_hand_do_not_deadlock() {
    // In the first case the other adapter comes into host memory and waits for the device, in the second its load has
    // the only slot and waits for host memory.
    for (host_ranks, max_concurrent_loads, max_prefetches) in [(8, 4, 1), (6, 1, 0)] {
        let max_wait = Duration::from_secs(3600);
        let room = limits(6 * SIZE_PER_RANK, host_ranks * SIZE_PER_RANK);
        let limits = AdapterLimits { max_wait, max_concurrent_loads, max_prefetches, ..room };
        let (store, source, digests) = store_of(5, 1, limits);
        drop(store.acquire(&digests[1]).await.unwrap());
        let other = tokio::spawn({
            let (store, digest) = (store.clone(), digests[4]);
            async move { store.acquire(&digest).await.map(drop) }
        });
        until("the other is fetched", || source.num_fetches() == 2).await;
        let several = tokio::spawn({
            let (store, digests) = (store.clone(), [digests[1], digests[2]]);
            async move { store.acquire_all(&tenant(), &digests).await.map(drop) }
        });
        until("the second of several is fetched too", || source.num_fetches() == 3).await;
        source.gate.add_permits(1);
        tokio::time::sleep(Duration::from_millis(20)).await;
        source.gate.add_permits(1);
        let both = async { (several.await.unwrap(), other.await.unwrap()) };
        let both = tokio::time::timeout(Duration::from_secs(20), both).await.expect("no deadlock");
        assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_would_pass_those_that_wait_too_often_stands_at_the_door_with_nothing_in_hand() {
    let (store, _, digests) = store_of(3, 100, limits(3 * SIZE_PER_RANK, 30 * SIZE_PER_RANK));
    let mut running = vec![store.acquire(&digests[1]).await.unwrap()];
    let cold = tokio::spawn({
        let (store, digest) = (store.clone(), digests[2]);
        async move { store.acquire(&digest).await.map(drop) }
    });
    until("it is in the line", || store.0.lock().somebody_waits()).await;
    for _ in 0..MAX_OVERTAKES {
        running.push(store.acquire(&digests[1]).await.unwrap());
    }
    let at_the_door: Vec<_> = (0..3)
        .map(|_| {
            let (store, digest) = (store.clone(), digests[1]);
            tokio::spawn(async move { store.acquire(&digest).await.map(drop) })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(at_the_door.iter().all(|task| !task.is_finished()));
    let users = store.stats().resident.iter().find(|adapter| adapter.digest == digests[1]).unwrap().users;
    assert_eq!(users, MAX_OVERTAKES + 1);
    // What is not in memory passes nobody: its load begins.
    drop(tokio::time::timeout(Duration::from_millis(20), store.acquire(&digests[0])).await);
    assert_eq!(store.stats().totals.loads, 3);
    drop(running);
    assert!(cold.await.unwrap().is_ok());
    for task in at_the_door {
        assert!(task.await.unwrap().is_ok());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stands_at_the_door_for_too_long_is_refused_with_the_numbers() {
    let limits =
        AdapterLimits { max_wait: Duration::from_millis(300), ..limits(3 * SIZE_PER_RANK, 30 * SIZE_PER_RANK) };
    let (store, _, digests) = store_of(3, 100, limits);
    let _running = store.acquire(&digests[1]).await.unwrap();
    let cold = tokio::spawn({
        let (store, digest) = (store.clone(), digests[2]);
        async move { while store.acquire(&digest).await.is_err() {} }
    });
    until("it is in the line", || store.0.lock().somebody_waits()).await;
    let mut running = Vec::new();
    for _ in 0..MAX_OVERTAKES {
        running.push(store.acquire(&digests[1]).await.unwrap());
    }
    let refused = store.lease(&None, &digests[1..2], now() - Duration::from_millis(290)).await.unwrap_err();
    assert!(
        matches!(refused, AdapterError::NoRoom { needed_bytes, in_use_bytes, .. }
            if needed_bytes == 2 * SIZE_PER_RANK && in_use_bytes == 2 * SIZE_PER_RANK),
        "{refused}"
    );
    cold.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adapters_that_never_fit_side_by_side_are_refused_at_once_with_the_numbers() {
    let forever = Duration::from_secs(3600);
    let limits = AdapterLimits { max_wait: forever, ..limits(6 * SIZE_PER_RANK, 20 * SIZE_PER_RANK) };
    let (store, _, digests) = store_of(4, 100, limits);
    let refused = store.acquire_all(&tenant(), &digests[2..4]).await.unwrap_err();
    assert!(
        matches!(refused, AdapterError::TogetherTooLarge { needed_bytes, tier: super::super::Tier::Device, budget_bytes }
            if needed_bytes == 7 * SIZE_PER_RANK && budget_bytes == 6 * SIZE_PER_RANK),
        "{refused}"
    );
    assert_eq!(store.acquire_all(&tenant(), &[digests[3], digests[1]]).await.unwrap().len(), 2);
    assert_eq!(
        store.acquire_all(&tenant(), &[digests[3], digests[3]]).await.unwrap().len(),
        2,
        "one that is named twice"
    );
}

/// A store over adapters of ranks 1, 2, 3, ... with these tiers.
fn store_with(num_adapters: usize, tiers: Tiers) -> (AdapterStore, Arc<GatedSource>, Vec<Digest>) {
    let (source, digests) = GatedSource::new((1..=num_adapters).map(|rank| adapter_files(rank, &json!({}))), 100);
    let of_store: Arc<dyn AdapterSource> = Arc::<GatedSource>::clone(&source);
    let store = AdapterStore::new(of_store, Arc::new(base()), Arc::new(weights()), limits(1 << 20, 1 << 20), tiers);
    (store.unwrap(), source, digests)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adapters_and_kv_share_the_pool_and_each_hears_of_the_others_need() {
    let floor = |pages: usize| SideLimits { floor_bytes: pages * PAGE_BYTES, cap_bytes: None };
    let memory = DeviceMemory::new(MemoryConfig { total_bytes: 4 * PAGE_BYTES, kv: floor(1), adapters: floor(1) });
    let memory = memory.unwrap();
    let (store, _, digests) = store_with(4, Tiers { memory: memory.clone(), disk: None });
    // Three adapters of a page each are all that fits beside the floor of the KV side.
    for digest in &digests[..3] {
        drop(store.acquire(digest).await.unwrap());
    }
    assert_eq!(memory.used(Side::Adapters), 3);
    // The KV side is short: idle adapters make way without anybody asking the store.
    assert!(memory.take(Side::Kv, 1) && !memory.take(Side::Kv, 2));
    memory.ask(Side::Kv, 2);
    until("two adapters have left", || memory.used(Side::Adapters) == 1).await;
    assert!(memory.take(Side::Kv, 2));
    // Adapters are short while the one on the device is leased: a request waits, and is served when pages come free.
    let on_device =
        store.stats().resident.iter().find(|adapter| adapter.tier == super::super::Tier::Device).unwrap().digest;
    let lease = store.acquire(&on_device).await.unwrap();
    let other = *digests.iter().find(|digest| **digest != on_device).unwrap();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.acquire(&other).await }
    });
    until("the wish is known", || memory.owes(Side::Kv) == 1).await;
    memory.give_back(Side::Kv, 1);
    assert_eq!(waiting.await.unwrap().unwrap().digest(), other);
    drop(lease);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prefetched_adapter_is_there_for_its_request_and_prefetches_never_hold_up_requests() {
    let (store, source, digests) = store_of(4, 0, limits(1 << 20, 1 << 20));
    store.prefetch(&digests[0]);
    store.prefetch(&digests[1]);
    until("one prefetch loads, a second is too many", || source.num_fetches() == 1).await;
    // Requests for others have places of their own, and one for the expected adapter joins its load.
    let ask = |digest: Digest| {
        let store = store.clone();
        tokio::spawn(async move { store.acquire(&digest).await })
    };
    let waiting: Vec<_> = [2, 3, 0].map(|index| ask(digests[index])).into();
    until("both others load too", || source.num_fetches() == 3).await;
    source.gate.add_permits(3);
    for lease in waiting {
        assert!(lease.await.unwrap().is_ok());
    }
    let totals = store.stats().totals;
    assert_eq!((totals.prefetches, totals.prefetch_hits, totals.loads), (1, 1, 3));
    source.gate.add_permits(1);
    store.prefetch(&digests[1]);
    until("it is on the device", || store.stats().resident.iter().any(|adapter| adapter.digest == digests[1])).await;
    drop(store.acquire(&digests[1]).await.unwrap());
    assert_eq!(store.stats().totals.prefetch_hits, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_prefetched_is_loaded_by_its_request_at_once() {
    let limits = AdapterLimits { max_prefetches: 2, ..limits(1 << 20, 1 << 20) };
    let (store, source, digests) = store_of(4, 0, limits);
    // All places for prefetches are taken, one of them by a load that a request has joined meanwhile.
    store.prefetch(&digests[0]);
    store.prefetch(&digests[1]);
    let joined = tokio::spawn({
        let (store, digest) = (store.clone(), digests[1]);
        async move { store.acquire(&digest).await }
    });
    until("both are loaded", || source.num_fetches() == 2 && store.stats().totals.prefetch_hits == 1).await;
    store.prefetch(&digests[2]);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!((source.num_fetches(), store.stats().totals.prefetches), (2, 2));
    source.gate.add_permits(3);
    assert!(store.acquire(&digests[2]).await.is_ok());
    assert!(joined.await.unwrap().is_ok());
    // Those places are free again.
    source.gate.add_permits(1);
    store.prefetch(&digests[3]);
    until("it is on the device", || store.stats().resident.iter().any(|adapter| adapter.digest == digests[3])).await;
}
