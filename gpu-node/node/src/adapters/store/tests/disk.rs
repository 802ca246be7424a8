//! The store over a disk tier of real files: whatever happens to them costs a load, never a request.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::*;

fn disk_in(folder: &std::path::Path) -> DiskTier {
    DiskTier::open(folder, 1 << 20, base().digest, base().shape).unwrap()
}

fn with_disk(folder: &Path, num_adapters: usize) -> (AdapterStore, Arc<GatedSource>, Vec<Digest>) {
    store_with(num_adapters, Tiers { disk: Some(disk_in(folder)), ..in_memory() })
}

fn b_of(lease: &AdapterLease) -> Vec<f32> {
    lease.slabs::<PackedAdapter>().unwrap().layers[0].v.as_ref().unwrap().b_f32()
}

/// Numbers that tell adapters apart.
async fn numbers_of(store: &AdapterStore, digest: &Digest) -> Vec<f32> {
    b_of(&store.acquire(digest).await.unwrap())
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_loaded_once_comes_from_disk_after_a_restart_and_damage_is_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let (store, source, digests) = with_disk(folder.path(), 2);
    let first = b_of(&store.acquire(&digests[0]).await.unwrap());
    drop(store.acquire(&digests[1]).await.unwrap());
    until("both are written", || store.stats().disk.unwrap().writes == 2).await;
    assert_eq!(source.num_fetches(), 2);
    drop(store);

    let (store, source, _) = with_disk(folder.path(), 2);
    let lease = store.acquire(&digests[0]).await.unwrap();
    assert_eq!(b_of(&lease), first);
    assert_eq!(lease.size_bytes, SIZE_PER_RANK);
    drop(lease);
    assert_eq!(source.num_fetches(), 0);
    drop(store);

    for entry in fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    let (store, source, _) = with_disk(folder.path(), 2);
    let lease = store.acquire(&digests[0]).await.unwrap();
    assert_eq!(b_of(&lease), first);
    assert_eq!(source.num_fetches(), 1);
    until("it is written again", || store.stats().disk.unwrap().writes == 1).await;
    assert_eq!(store.stats().disk.unwrap().corrupt, 1);
    // A take-down reaches the disk, also where the adapter is nowhere else.
    let (later, _, _) = with_disk(folder.path(), 2);
    assert!(store.take_down(&digests[0]));
    until("it is gone", || store.stats().disk.unwrap().files == 1).await;
    assert!(!later.take_down(&digests[1]));
    until("the other is gone too", || files_in(folder.path()).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_brings_back_what_was_used_last_as_far_as_there_is_room_and_fetches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _, digests) = with_disk(folder.path(), 4);
    for digest in &digests {
        drop(store.acquire(digest).await.unwrap());
    }
    until("all are written", || store.stats().disk.unwrap().writes == 4).await;
    drop(store);
    // As if the second had been used last, and the third before it; reading a file is a use too.
    let mark = || {
        for (age, index) in [2, 1].into_iter().enumerate() {
            let name = digests[index].hex();
            let path = files_in(folder.path()).into_iter().find(|path| path.to_str().unwrap().contains(&name)).unwrap();
            let later = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000 + age as u64);
            fs::File::open(path).unwrap().set_modified(later).unwrap();
        }
    };

    let start = |limits: AdapterLimits| {
        mark();
        let (source, _) = GatedSource::new([], 0);
        let tiers = Tiers { disk: Some(disk_in(folder.path())), ..in_memory() };
        let of_store: Arc<dyn AdapterSource> = Arc::<GatedSource>::clone(&source);
        (AdapterStore::new(of_store, Arc::new(base()), Arc::new(weights()), limits, tiers).unwrap(), source)
    };
    let resident = |store: &AdapterStore| {
        let held = store.stats().resident;
        let is_held = |index: &usize| held.iter().any(|adapter| adapter.digest == digests[*index]);
        (0..4).filter(is_held).collect::<Vec<_>>()
    };
    let room = limits(64 * SIZE_PER_RANK, 64 * SIZE_PER_RANK);
    let (store, source) = start(AdapterLimits { prefetch_at_start: 2, ..room });
    assert_eq!(store.prefetch_likely(&[]).await, 2);
    assert_eq!((resident(&store), source.num_fetches()), (vec![1, 2], 0));
    // Their requests find them there.
    drop(store.acquire(&digests[1]).await.unwrap());
    assert_eq!(store.stats().totals.prefetch_hits, 1);
    drop(store);

    // Room for the second, of rank 2, beside the reserve, and for no other.
    let (store, _) = start(AdapterLimits { prefetch_at_start: 4, ..limits(4 * SIZE_PER_RANK, 4 * SIZE_PER_RANK) });
    assert_eq!((store.prefetch_likely(&[]).await, resident(&store)), (1, vec![1]));
    drop(store);
    let (store, _) = start(AdapterLimits { prefetch_at_start: 0, ..room });
    assert_eq!((store.prefetch_likely(&[]).await, resident(&store)), (0, vec![]));
    // What was taken down does not come back.
    let (store, _) = start(AdapterLimits { prefetch_at_start: 2, ..room });
    store.take_down(&digests[1]);
    store.prefetch_likely(&[]).await;
    assert!(!resident(&store).contains(&1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_registered_adapters_cost_nothing_until_they_are_used_and_little_after() {
    const NUM_KNOWN: usize = 10_000;
    let folder = tempfile::tempdir().unwrap();
    let (store, _, digests) = with_disk(folder.path(), 12);
    for digest in &digests {
        drop(store.acquire(digest).await.unwrap());
    }
    until("all are written", || store.stats().disk.unwrap().writes == 12).await;
    drop(store);
    // Files of others, which nobody asks for: the first one that was read would be found to be damaged.
    let suffix = files_in(folder.path())[0].file_name().unwrap().to_str().unwrap()[64..].to_owned();
    for index in 12..NUM_KNOWN {
        fs::write(folder.path().join(Digest::of(&index.to_le_bytes()).hex() + &suffix), b"not opened").unwrap();
    }
    let tiers = || Tiers { disk: Some(disk_in(folder.path())), ..in_memory() };
    let (source, _) = GatedSource::new([], 0);
    let room = limits(12 * SIZE_PER_RANK, 30 * SIZE_PER_RANK);
    let of_store: Arc<dyn AdapterSource> = Arc::<GatedSource>::clone(&source);
    let store = AdapterStore::new(of_store, Arc::new(base()), Arc::new(weights()), room, tiers()).unwrap();
    let stats = store.stats();
    assert_eq!((stats.disk.unwrap().files, stats.resident.len(), stats.totals.host_bytes), (NUM_KNOWN, 0, 0));
    for digest in &digests {
        drop(store.acquire(digest).await.unwrap());
    }
    let stats = store.stats();
    let disk = stats.disk.unwrap();
    assert_eq!((disk.files, disk.hits, disk.corrupt, disk.misses), (NUM_KNOWN, 12, 0, 0));
    assert_eq!((source.num_fetches(), stats.totals.loads), (0, 12));
    assert!(stats.totals.host_bytes <= room.host_bytes && stats.resident.len() < 12, "what was used once makes way");
}

/// What can happen to a file, given the file of another adapter.
type Damage = (&'static str, fn(&Path, &[u8]));

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

const DAMAGES: [Damage; 9] = [
    ("half of it", |path, _| edit(path, |bytes| bytes.truncate(bytes.len() / 2))),
    ("nothing in it", |path, _| edit(path, Vec::clear)),
    ("more in it", |path, _| edit(path, |bytes| bytes.extend([0; 5000]))),
    ("a flipped bit in the magic number", |path, _| edit(path, |bytes| bytes[0] ^= 1)),
    ("a flipped bit in the checksum", |path, _| edit(path, |bytes| bytes[20] ^= 1)),
    ("a flipped bit in the digest", |path, _| edit(path, |bytes| bytes[50] ^= 1)),
    ("a flipped bit in a record", |path, _| edit(path, |bytes| bytes[118] ^= 1)),
    ("a flipped bit in the last number", |path, _| edit(path, |bytes| *bytes.last_mut().unwrap() ^= 1)),
    ("the intact file of another adapter", |path, other| fs::write(path, other).unwrap()),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_damage_a_file_has_it_is_seen_and_the_adapter_fetched_and_written_again() {
    let pristine = tempfile::tempdir().unwrap();
    let (store, _, digests) = with_disk(pristine.path(), 2);
    let expected = numbers_of(&store, &digests[0]).await;
    drop(store.acquire(&digests[1]).await.unwrap());
    until("both are written", || store.stats().disk.unwrap().writes == 2).await;
    let (mut path, mut other) = (files_in(pristine.path())[0].clone(), files_in(pristine.path())[1].clone());
    let is_of = |path: &Path| path.file_name().unwrap().to_str().unwrap().starts_with(&digests[0].hex());
    if !is_of(&path) {
        std::mem::swap(&mut path, &mut other);
    }
    let (intact, other) = (fs::read(&path).unwrap(), fs::read(other).unwrap());
    for (what, damage) in DAMAGES {
        for while_open in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(path.file_name().unwrap());
            fs::write(&path, &intact).unwrap();
            let opened = while_open.then(|| disk_in(folder.path()));
            damage(&path, &other);
            let disk = Some(opened.unwrap_or_else(|| disk_in(folder.path())));
            let (store, source, _) = store_with(2, Tiers { disk, ..in_memory() });
            assert_eq!(numbers_of(&store, &digests[0]).await, expected, "{what}");
            assert_eq!((source.num_fetches(), store.stats().disk.unwrap().corrupt), (1, 1), "{what}");
            until("it is written again", || store.stats().disk.unwrap().writes == 1).await;
            assert_eq!(fs::read(&path).unwrap(), intact, "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_in_the_place_of_a_file_and_what_a_crash_has_left_cost_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _, digests) = with_disk(folder.path(), 2);
    let expected = numbers_of(&store, &digests[0]).await;
    until("it is written", || store.stats().disk.unwrap().writes == 1).await;
    let [path] = &files_in(folder.path())[..] else { panic!("one file") };
    let left_by_a_crash = folder.path().join(".unfinished-0123");
    fs::copy(path, &left_by_a_crash).unwrap();
    drop(store);
    // Once while the tier is open, once before.
    let (disk, path) = (disk_in(folder.path()), path.clone());
    assert!(!left_by_a_crash.exists());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    for (disk, num_corrupt) in [(disk, 1), (disk_in(folder.path()), 0)] {
        let (store, source, _) = store_with(2, Tiers { disk: Some(disk), ..in_memory() });
        assert_eq!(numbers_of(&store, &digests[0]).await, expected);
        until("it was tried to write it", || store.stats().disk.unwrap().write_failures == 1).await;
        assert_eq!((source.num_fetches(), store.stats().disk.unwrap().corrupt), (1, num_corrupt));
        // Others keep their place on disk.
        drop(store.acquire(&digests[1]).await.unwrap());
        until("another is there", || store.stats().disk.unwrap().files == 1).await;
    }
    assert_eq!(files_in(folder.path()).len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_that_share_a_folder_serve_each_others_files() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (with_disk(folder.path(), 6), with_disk(folder.path(), 6));
    // Both load and write all of them at once.
    let digests = &one.2;
    for digest in digests {
        let (a, b) = tokio::join!(numbers_of(&one.0, digest), numbers_of(&two.0, digest));
        assert_eq!(a, b);
    }
    for store in [&one.0, &two.0] {
        until("all are written", || store.stats().disk.unwrap().writes == 6).await;
        assert_eq!(store.stats().disk.unwrap().write_failures, 0);
    }
    let (three, source, _) = with_disk(folder.path(), 6);
    for digest in digests {
        assert_eq!(numbers_of(&three, digest).await, numbers_of(&one.0, digest).await);
    }
    assert_eq!((source.num_fetches(), three.stats().disk.unwrap().hits), (0, 6));
    assert_eq!(files_in(folder.path()).len(), 6);
}

/// Where the file system is that the test below fills, in the process that has it mounted; and a file that it writes at
/// its end.
const FULL_FOLDER: &str = "SOUK_TEST_FULL_FOLDER";
const FULL_DONE: &str = "SOUK_TEST_FULL_DONE";

#[test]
#[cfg_attr(not(can_mount), ignore = "needs leave to mount: unshare --map-root-user --mount, see build.rs")]
fn a_full_file_system_costs_older_files_and_never_a_request() {
    if let Some(folder) = std::env::var_os(FULL_FOLDER) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        runtime.block_on(fill_up(Path::new(&folder)));
        return fs::write(std::env::var_os(FULL_DONE).unwrap(), b"").unwrap();
    }
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_, module) = module_path!().split_once("::").unwrap();
    let name = format!("{module}::a_full_file_system_costs_older_files_and_never_a_request");
    let done = outside.path().join("done");
    let script = format!(r#"mount -t tmpfs -o size=1m none "${FULL_FOLDER}" && exec "$0" "$@""#);
    let status = std::process::Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--include-ignored", "--nocapture"])
        .envs([(FULL_FOLDER, folder.path()), (FULL_DONE, &done)])
        .status()
        .unwrap();
    assert!(status.success() && done.exists(), "the process with the small file system: {status}");
}

/// Takes all room of the file system but so many bytes.
fn fill(folder: &Path, but_bytes: u64) {
    let mut ballast = fs::File::options().create(true).append(true).open(folder.join("ballast")).unwrap();
    while ballast.write_all(&[1; 4096]).is_ok() {}
    ballast.set_len(ballast.metadata().unwrap().len() - but_bytes).unwrap();
}

/// The test's second half, with a file system of 1 MiB at `folder`.
async fn fill_up(folder: &Path) {
    let names = || files_in(folder).iter().map(|path| path.file_name().unwrap().to_owned()).collect::<Vec<_>>();
    let (source, digests) = GatedSource::new((200..208).rev().map(|rank| adapter_files(rank, &json!({}))), 100);
    let start = || {
        let disk = DiskTier::open(folder, 1 << 30, base().digest, base().shape).unwrap();
        let source: Arc<dyn AdapterSource> = Arc::<GatedSource>::clone(&source);
        let limits = limits(1 << 20, 1 << 20);
        let tiers = Tiers { disk: Some(disk), ..in_memory() };
        AdapterStore::new(source, Arc::new(base()), Arc::new(weights()), limits, tiers).unwrap()
    };
    // Each takes 28 KiB and is no larger than those before it: there is room for three, and the budget has no part in
    // it.
    fill(folder, 100 << 10);
    let store = start();
    for (at, digest) in digests.iter().enumerate() {
        drop(store.acquire(digest).await.unwrap());
        until("it is written", || store.stats().disk.unwrap().writes == at as u64 + 1).await;
    }
    let disk = store.stats().disk.unwrap();
    assert_eq!((disk.files, disk.evictions, disk.write_failures), (3, 5, 0));
    assert_eq!(names().len(), 4, "three files and the ballast; nothing unfinished: {:?}", names());
    drop(store);

    // Others take the last byte. What is there is still read after a restart.
    fill(folder, 0);
    let store = start();
    let num_fetches = source.num_fetches();
    for digest in &digests[5..] {
        drop(store.acquire(digest).await.unwrap());
    }
    assert_eq!((source.num_fetches() - num_fetches, store.stats().disk.unwrap().hits), (0, 3));
    // Nothing is left that could make way: requests are served without the tier, which does not try again for each.
    for digest in &digests[5..] {
        store.0.origin.disk.as_ref().unwrap().remove(digest);
    }
    until("all are gone", || store.stats().disk.unwrap().files == 0 && names().len() == 1).await;
    fill(folder, 0);
    drop(store.acquire(&digests[0]).await.unwrap());
    until("it was tried to write it", || store.stats().disk.unwrap().write_failures == 1).await;
    for digest in &digests {
        drop(store.acquire(digest).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    let disk = store.stats().disk.unwrap();
    assert_eq!((disk.files, disk.writes, disk.write_failures), (0, 0, 1));
    assert_eq!(names(), ["ballast"], "nothing unfinished is left");
}
