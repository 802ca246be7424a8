use souk_kernels::cpu::LoraPair;

use super::*;
use crate::adapters::samples::{SHAPE, base};

fn adapter(name: &str, rank: usize) -> Arc<PackedAdapter> {
    let mut adapter = PackedAdapter::empty(Digest::of(name.as_bytes()), SHAPE.num_layers);
    let (a, b) = (vec![0.5; rank * SHAPE.hidden_size], vec![0.25; rank * SHAPE.kv_size()]);
    let pair = LoraPair::pack(rank, SHAPE.hidden_size, SHAPE.kv_size(), &a, &b, 1.0, souk_kernels::SlabType::F16);
    adapter.layers[0].v = Some(pair.unwrap());
    adapter.size_bytes = adapter.measure_bytes();
    Arc::new(adapter)
}

fn open(folder: &Path, budget_bytes: u64) -> DiskTier {
    DiskTier::open(folder, budget_bytes, base().digest, SHAPE).unwrap()
}

/// Writes and waits until it is done.
fn write(tier: &DiskTier, adapter: &Arc<PackedAdapter>) {
    let done = |stats: DiskStats| stats.writes + stats.write_failures;
    let before = done(tier.stats());
    assert!(tier.write(adapter));
    until(|| done(tier.stats()) > before);
}

fn until(holds: impl Fn() -> bool) {
    for _ in 0..5000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("it never came to this");
}

fn file_names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_is_written_can_be_read_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (tier, one) = (open(folder.path(), 1 << 20), adapter("one", 2));
    assert!(tier.read(&one.digest).is_none());
    write(&tier, &one);
    let read = tier.read(&one.digest).unwrap();
    assert_eq!((read.digest, read.size_bytes), (one.digest, one.size_bytes));
    let stats = tier.stats();
    assert_eq!((stats.hits, stats.misses, stats.writes, stats.files), (1, 1, 1, 1));
    drop(tier);
    let tier = open(folder.path(), 1 << 20);
    assert!(tier.has(&one.digest) && tier.read(&one.digest).is_some());
    assert_eq!(tier.stats().bytes, stats.bytes);
}

#[test]
fn a_damaged_or_cut_file_is_counted_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let tier = open(folder.path(), 1 << 20);
    let damages: [fn(&mut Vec<u8>); 4] =
        [|file| file[130] ^= 1, |file| file.truncate(100), Vec::clear, |file| file.extend([0; 100_000])];
    for (at, damage) in damages.into_iter().enumerate() {
        let one = adapter(&format!("{at}"), 2);
        write(&tier, &one);
        let path = folder.path().join(tier.shared.key_of(&one.digest).to_string());
        let mut file = fs::read(&path).unwrap();
        damage(&mut file);
        fs::write(&path, file).unwrap();
        assert!(tier.read(&one.digest).is_none());
        assert!(!path.exists() && !tier.has(&one.digest));
        assert_eq!(tier.stats().corrupt, at as u64 + 1);
    }
    assert_eq!(tier.stats().bytes, 0);
    // It can be written again.
    let one = adapter("0", 2);
    write(&tier, &one);
    assert!(tier.read(&one.digest).is_some());
}

#[test]
fn a_full_tier_lets_go_of_what_was_used_longest_ago() {
    let folder = tempfile::tempdir().unwrap();
    let size = {
        let tier = open(folder.path(), 1 << 20);
        write(&tier, &adapter("size", 2));
        tier.stats().bytes
    };
    let tier = open(folder.path(), 3 * size);
    tier.remove(&Digest::of(b"size"));
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| adapter(name, 2));
    for one in [&a, &b, &c] {
        write(&tier, one);
    }
    assert!(tier.read(&a.digest).is_some());
    write(&tier, &d);
    let there = [&a, &b, &c, &d].map(|one| tier.has(&one.digest));
    assert_eq!(there, [true, false, true, true]);
    assert_eq!((tier.stats().evictions, tier.stats().bytes), (1, 3 * size));
    // A smaller budget after a restart.
    drop(tier);
    until(|| open(folder.path(), 2 * size).stats().bytes <= 2 * size);
    // One that is larger than everything is not written and evicts nothing.
    let tier = open(folder.path(), 2 * size);
    tier.write(&adapter("huge", 200));
    write(&tier, &adapter("e", 2));
    assert_eq!((tier.stats().files, tier.has(&Digest::of(b"huge"))), (2, false));
}

#[test]
fn opening_removes_what_is_unfinished_or_old_and_leaves_what_is_not_ours() {
    let folder = tempfile::tempdir().unwrap();
    let digest = Digest::of(b"x").hex();
    let old = format!("{digest}-v0.1-0123456789ab");
    let other_base = format!("{digest}{}0123456789ab", index::version_suffix());
    for name in [format!("{UNFINISHED}{digest}"), old, other_base.clone(), "notes.txt".to_owned(), digest.clone()] {
        fs::write(folder.path().join(name), b"?").unwrap();
    }
    fs::create_dir(folder.path().join("folder")).unwrap();
    let tier = open(folder.path(), 1 << 20);
    let mut left = vec![digest.clone(), "folder".to_owned(), "notes.txt".to_owned(), other_base];
    left.sort();
    assert_eq!(file_names(folder.path()), left);
    assert_eq!(tier.stats().files, 1, "another base's files count towards the budget");
    assert!(!tier.has(&Digest::of(b"x")));
}

#[test]
fn a_folder_that_goes_away_costs_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tier");
    let tier = open(&path, 1 << 20);
    let one = adapter("one", 2);
    write(&tier, &one);
    fs::remove_dir_all(&path).unwrap();
    assert!(tier.read(&one.digest).is_none());
    write(&tier, &one);
    assert_eq!(tier.stats().write_failures, 1);
    // No more attempts until the pause is over.
    tier.write(&adapter("two", 2));
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!((tier.stats().write_failures, tier.stats().writes), (1, 1));
    // A folder that cannot be one is an error at the start, which the node survives.
    fs::write(&path, b"a file").unwrap();
    assert!(DiskTier::open(&path, 1 << 20, base().digest, SHAPE).is_err());
}

#[test]
fn what_is_removed_does_not_come_back_by_a_write_that_waited() {
    let folder = tempfile::tempdir().unwrap();
    let tier = open(folder.path(), 1 << 20);
    let one = adapter("one", 2);
    tier.write(&one);
    tier.remove(&one.digest);
    let two = adapter("two", 2);
    tier.write(&two);
    until(|| tier.has(&two.digest));
    assert!(!tier.has(&one.digest));
    assert_eq!(tier.stats().files, 1);
}

#[test]
fn a_removal_reaches_what_waits_to_be_written_also_when_no_more_work_fits_into_the_queue() {
    let folder = tempfile::tempdir().unwrap();
    let (work, waiting) = sync_channel(MAX_WAITING_WRITES);
    let (folder_of, index) = (folder.path().to_owned(), Mutex::default());
    let shared = DiskState { folder: folder_of, budget_bytes: 1 << 20, base: base().digest, shape: SHAPE, index };
    // The thread that writes does not come to it for a while.
    let tier = DiskTier { shared: Arc::new(shared), work };
    let adapters: Vec<_> = (0..=MAX_WAITING_WRITES).map(|index| adapter(&index.to_string(), 2)).collect();
    for adapter in &adapters[..MAX_WAITING_WRITES] {
        assert!(tier.write(adapter) && tier.write(adapter), "the second time it waits already");
    }
    assert!(!tier.write(&adapters[MAX_WAITING_WRITES]));
    tier.remove(&adapters[3].digest);
    let shared = Arc::clone(&tier.shared);
    drop(tier);
    shared.work_off(&waiting);
    let there: Vec<_> = adapters.iter().map(|adapter| shared.lock().has(&shared.key_of(&adapter.digest))).collect();
    assert_eq!(there.iter().filter(|is_there| !**is_there).count(), 2);
    assert!(!there[3] && !there[MAX_WAITING_WRITES]);
    assert_eq!(file_names(folder.path()).len(), MAX_WAITING_WRITES - 1);
    assert!(shared.lock().to_write.is_empty());
}

/// Bytes that the calling thread has read, by `read` and its like, and the number of such calls.
#[cfg(target_os = "linux")]
fn read_so_far() -> [u64; 2] {
    let io = fs::read_to_string("/proc/thread-self/io").unwrap();
    ["rchar: ", "syscr: "].map(|name| io.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap())
}

/// What `work` reads.
#[cfg(target_os = "linux")]
fn reads(work: impl FnOnce()) -> [u64; 2] {
    let cost_of = |work: &mut dyn FnMut()| {
        let before = read_so_far();
        work();
        let after = read_so_far();
        [0, 1].map(|at| after[at] - before[at])
    };
    let mut work = Some(work);
    let nothing = cost_of(&mut || ());
    let something = cost_of(&mut || work.take().unwrap()());
    // The counts have a few digits more or less each time.
    [something[0].saturating_sub(nothing[0] + 8), something[1] - nothing[1]]
}

#[cfg(target_os = "linux")]
#[test]
fn ten_thousand_known_adapters_are_listed_and_looked_up_without_opening_one() {
    const NUM_FILES: usize = 10_000;
    let folder = tempfile::tempdir().unwrap();
    let digest = |index: usize| Digest::of(&index.to_le_bytes());
    for index in 0..NUM_FILES {
        fs::write(folder.path().join(FileKey::new(&digest(index), &base().digest).to_string()), [0; 100]).unwrap();
    }
    let mut tier = None;
    assert_eq!(reads(|| tier = Some(open(folder.path(), 1 << 30))), [0, 0], "start");
    let tier = tier.unwrap();
    let stats = tier.stats();
    assert_eq!((stats.files, stats.bytes), (NUM_FILES, 100 * NUM_FILES as u64));
    let look_up = || {
        assert!((0..NUM_FILES).all(|index| tier.has(&digest(index))));
        assert!((NUM_FILES..2 * NUM_FILES).all(|index| !tier.has(&digest(index))));
    };
    assert_eq!(reads(look_up), [0, 0], "look-ups");
    // The measure sees it when one is used: it is no packed adapter, which takes reading it to know.
    let [bytes, calls] = reads(|| assert!(tier.read(&digest(7)).is_none()));
    assert!(bytes >= 90 && calls >= 1, "{bytes} bytes in {calls} calls");
    assert_eq!(tier.stats().files, NUM_FILES - 1);
    // Neither does it take reading to come down to a smaller budget.
    drop(tier);
    assert_eq!(reads(|| assert_eq!(open(folder.path(), 1000).stats().files, 10)), [0, 0], "a smaller budget");
    assert_eq!(file_names(folder.path()).len(), 10);
}

#[test]
fn nodes_that_share_a_folder_write_the_same_files_without_harm() {
    let folder = tempfile::tempdir().unwrap();
    let adapters: Vec<_> = (0..60).map(|index| adapter(&format!("{index}"), 200)).collect();
    let tiers = [open(folder.path(), 1 << 30), open(folder.path(), 1 << 30)];
    std::thread::scope(|scope| {
        for tier in &tiers {
            scope.spawn(|| adapters.iter().for_each(|adapter| until(|| tier.write(adapter))));
        }
        // Others start meanwhile, and take what is unfinished for what a crash has left.
        scope.spawn(|| (0..20).for_each(|_| drop(open(folder.path(), 1 << 30))));
    });
    until(|| tiers.iter().all(|tier| tier.stats().writes + tier.stats().write_failures == 60));
    let fresh = open(folder.path(), 1 << 30);
    for tier in tiers.iter().chain([&fresh]) {
        assert!(adapters.iter().all(|adapter| tier.read(&adapter.digest).is_some()));
        let stats = tier.stats();
        assert_eq!((stats.files, stats.corrupt, stats.write_failures), (60, 0, 0));
    }
    assert_eq!(file_names(folder.path()).len(), 60, "nothing unfinished is left");
    // What one lets go is not there for the other, and not damaged.
    tiers[0].remove(&adapters[0].digest);
    until(|| !tiers[0].has(&adapters[0].digest));
    assert!(tiers[1].read(&adapters[0].digest).is_none());
    let stats = tiers[1].stats();
    assert_eq!((stats.files, stats.corrupt, stats.misses), (59, 0, 1));
}

#[test]
fn a_folder_in_the_place_of_a_file_costs_this_adapter_its_place_and_others_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (taken, other) = (adapter("taken", 2), adapter("other", 2));
    let path = folder.path().join(FileKey::new(&taken.digest, &base().digest).to_string());
    fs::create_dir(&path).unwrap();
    fs::write(path.join("precious"), b"?").unwrap();
    let tier = open(folder.path(), 1 << 20);
    assert!(!tier.has(&taken.digest) && tier.read(&taken.digest).is_none());
    write(&tier, &taken);
    write(&tier, &other);
    let stats = tier.stats();
    assert_eq!((stats.files, stats.writes, stats.write_failures), (1, 1, 1));
    assert!(tier.read(&other.digest).is_some() && path.join("precious").exists());
    assert_eq!(file_names(folder.path()).len(), 2, "nothing unfinished is left");
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_may_not_be_read_is_as_good_as_damaged() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let (tier, one) = (open(folder.path(), 1 << 20), adapter("one", 2));
    write(&tier, &one);
    let path = tier.shared.path_of(&tier.shared.key_of(&one.digest));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    let read = std::thread::scope(|scope| {
        let as_nobody = || {
            if rustix::process::geteuid().is_root() {
                // Who may read everything becomes nobody, in this thread alone.
                rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65_534)).unwrap();
            }
            tier.read(&one.digest)
        };
        scope.spawn(as_nobody).join().unwrap()
    });
    assert!(read.is_none() && !path.exists());
    assert_eq!((tier.stats().corrupt, tier.stats().files), (1, 0));
    write(&tier, &one);
    assert!(tier.read(&one.digest).is_some());
}
