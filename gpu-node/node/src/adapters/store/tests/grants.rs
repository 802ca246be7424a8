//! A source that hands files out with the grant that came in a job, and not without.

use souk_protocol::FileGrant;

use super::*;

fn grant(text: &str) -> FileGrant {
    FileGrant::new(text)
}

fn granted(digest: Digest, text: &str) -> Fetchable {
    Fetchable { digest, grant: Some(grant(text)) }
}

/// A store over such a source, and an adapter.
fn store_with_grants(tiers: Tiers) -> (AdapterStore, Arc<GatedSource>, Digest) {
    let (source, digests) = GatedSource::that_asks_for(Some(grant("good")), [adapter_files(2, &json!({}))], 100);
    let of_store: Arc<dyn AdapterSource> = Arc::<GatedSource>::clone(&source);
    let store = AdapterStore::new(of_store, Arc::new(base()), Arc::new(weights()), limits(4096, 4096), tiers);
    (store.unwrap(), source, digests[0])
}

#[tokio::test]
async fn files_are_had_with_the_grant_that_came_last_and_a_bad_one_holds_up_no_other_job() {
    let (store, source, digest) = store_with_grants(in_memory());
    for bad in [None, Some("expired")] {
        bad.into_iter().for_each(|bad| store.keep_grant(&granted(digest, bad)));
        let refused = store.acquire(&digest).await.unwrap_err();
        assert!(matches!(refused, AdapterError::Source(SourceError::NotGranted(_))), "{refused}");
    }
    // At once, without a pause.
    store.keep_grant(&granted(digest, "good"));
    drop(store.acquire(&digest).await.unwrap());
    assert_eq!(source.num_fetches(), 3);
    // What is resident is used without asking anybody.
    store.keep_grant(&granted(digest, "expired"));
    drop(store.acquire(&digest).await.unwrap());
    assert_eq!(source.num_fetches(), 3);
}

#[tokio::test]
async fn nothing_is_fetched_ahead_without_a_grant() {
    let (store, source, digest) = store_with_grants(in_memory());
    store.prefetch(&digest);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!((source.num_fetches(), store.stats().totals.load_failures), (0, 0));
    store.keep_grant(&granted(digest, "good"));
    store.prefetch(&digest);
    until("it is fetched", || source.num_fetches() == 1 && !store.stats().resident.is_empty()).await;
}

#[tokio::test]
async fn what_is_asked_for_most_comes_before_anybody_asks_here_and_others_do_not_keep_it_away() {
    let files = (1..=4).map(|rank| adapter_files(rank, &json!({})));
    let (source, digests) = GatedSource::that_asks_for(Some(grant("good")), files, 100);
    let of_store: Arc<dyn AdapterSource> = Arc::<GatedSource>::clone(&source);
    let limits = AdapterLimits { prefetch_at_start: 2, ..limits(4096, 4096) };
    let store = AdapterStore::new(of_store, Arc::new(base()), Arc::new(weights()), limits, in_memory()).unwrap();
    store.take_down(&digests[0]);
    let unknown = granted(Digest::of(b"unknown"), "good");
    let of = |index: usize, text| granted(digests[index], text);
    let popular = [of(0, "good"), unknown.clone(), of(1, "expired"), of(2, "good"), of(3, "good")];
    // Two of five are read: those that are gone, unknown or without a good grant take no place of others, but tries do end.
    assert_eq!(store.prefetch_likely(&popular).await, 2);
    let mut resident: Vec<_> = store.stats().resident.iter().map(|adapter| adapter.digest).collect();
    resident.sort_unstable();
    let mut expected = [digests[2], digests[3]];
    expected.sort_unstable();
    assert_eq!(resident, expected);
    let before = source.num_fetches();
    assert_eq!(store.prefetch_likely(&[of(2, "good"), of(3, "good")]).await, 0, "they are here");
    assert_eq!(source.num_fetches(), before);
    let nothing: Vec<_> = (0..9).map(|at| granted(Digest::of(&[at]), "good")).collect();
    assert_eq!(store.prefetch_likely(&nothing).await, 0);
    assert_eq!(source.num_fetches(), before + 3, "after three in vain it stops");
}

#[tokio::test]
async fn what_is_on_disk_is_read_without_a_grant() {
    let folder = tempfile::tempdir().unwrap();
    let tiers = || {
        let disk = DiskTier::open(folder.path(), 1 << 20, base().digest, base().shape).unwrap();
        Tiers { memory: ample_memory(), disk: Some(disk) }
    };
    let (store, _, digest) = store_with_grants(tiers());
    store.keep_grant(&granted(digest, "good"));
    drop(store.acquire(&digest).await.unwrap());
    until("it is on disk", || store.stats().disk.is_some_and(|disk| disk.files == 1)).await;
    let (later, source, digest) = store_with_grants(tiers());
    drop(later.acquire(&digest).await.unwrap());
    assert_eq!(source.num_fetches(), 0);
}
