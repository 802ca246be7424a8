use super::*;
use crate::adapters::samples::{SHAPE, base};

fn adapter(name: &str, rank: usize) -> Arc<DeviceAdapter> {
    let mut adapter = DeviceAdapter::empty(Digest::of(name.as_bytes()), SHAPE.num_layers);
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
fn write(tier: &DiskTier, adapter: &Arc<DeviceAdapter>) {
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
        let path = folder.path().join(tier.shared.name_of(&one.digest));
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
    let other_base = format!("{digest}{}0123456789ab", version_suffix());
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
    write(&tier, &adapter("two", 2));
    assert!(!tier.has(&one.digest));
    assert_eq!(tier.stats().files, 1);
}
