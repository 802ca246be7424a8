use std::collections::BTreeSet;

use proptest::prelude::*;
use souk_protocol::{Digest, PoolId, TenantId, TokenId};

use super::*;
use crate::adapter_set::AdapterSet;
use crate::device_memory::{MemoryConfig, PAGE_BYTES, SideLimits};
use crate::prefix::KeyChain;

/// A pool with memory for all of its blocks.
fn pool_of(num_blocks: usize) -> BlockPool {
    let memory = DeviceMemory::split(num_blocks * PAGE_BYTES, PAGE_BYTES).unwrap();
    BlockPool::new(num_blocks, memory, 1)
}

/// Keys of a chain in which block `i` holds the token `contents[i]` over and over.
fn keys(tenant: u8, contents: &[u8]) -> Vec<BlockKey> {
    let mut chain = KeyChain::new(&TenantId::from_stored(tenant.to_string()), &PoolId(Digest::of(b"base")));
    let tokens: Vec<_> =
        contents.iter().flat_map(|content| std::iter::repeat_n(TokenId::from(*content), BLOCK_TOKENS)).collect();
    chain.extend(&tokens, &AdapterSet::new(&[], &[]));
    chain.keys().to_vec()
}

/// A list whose blocks are complete and shared.
fn shared(pool: &BlockPool, keys: &[BlockKey]) -> BlockList {
    let mut list = pool.empty_list();
    list.adopt(keys);
    assert!(list.grow_to(keys.len() * BLOCK_TOKENS));
    list.share(keys);
    list
}

#[test]
fn growing_takes_only_what_is_missing() {
    let pool = pool_of(4);
    let mut list = pool.empty_list();
    assert!(list.grow_to(1));
    let first = list.as_slice().to_vec();
    assert!(list.grow_to(BLOCK_TOKENS) && list.as_slice() == first);
    assert!(list.grow_to(BLOCK_TOKENS + 1) && list.as_slice().len() == 2);
    assert_eq!(list.as_slice()[0], first[0]);
    assert!(!list.grow_to(5 * BLOCK_TOKENS), "there are only four");
    assert_eq!((list.as_slice().len(), pool.num_free()), (2, 2), "a refusal takes nothing");
}

#[test]
fn what_was_shared_is_found_while_it_is_held_and_after() {
    let pool = pool_of(8);
    let keys = keys(0, &[1, 2, 3]);
    let first = shared(&pool, &keys);
    let mut second = pool.empty_list();
    assert_eq!(second.adopt(&keys[..2]), 2);
    assert_eq!((second.as_slice(), pool.num_free()), (&first.as_slice()[..2], 5));
    let blocks = first.as_slice().to_vec();
    drop((first, second));
    assert_eq!((pool.num_free(), pool.num_idle()), (8, 3));
    let mut third = pool.empty_list();
    assert_eq!((third.adopt(&keys), third.as_slice()), (3, &blocks[..]));
    assert_eq!((pool.num_free(), pool.num_idle()), (5, 0));
}

#[test]
fn free_blocks_are_taken_before_idle_ones_and_of_those_the_least_recently_used_tail_first() {
    let pool = pool_of(6);
    let (old, new) = (keys(0, &[1, 1]), keys(0, &[2, 2, 2]));
    drop(shared(&pool, &old));
    drop(shared(&pool, &new));
    let found = |keys: &[BlockKey]| pool.empty_list().adopt(keys);
    // Looking the old chain's head up makes it the last to go.
    assert_eq!(found(&old[..1]), 1);
    let mut list = pool.empty_list();
    for (num_tokens, num_evicted, found_old, found_new) in
        [(1, 0, 2, 3), (2, 1, 1, 3), (3, 2, 1, 2), (4, 3, 1, 1), (5, 4, 1, 0), (6, 5, 0, 0)]
    {
        assert!(list.grow_to(num_tokens * BLOCK_TOKENS));
        assert_eq!(pool.num_evicted(), num_evicted);
        // By the pool's own index, since a look-up counts as use.
        let books = lock(&pool.books);
        let num_found = |keys: &[BlockKey]| keys.iter().filter(|key| books.by_key.contains_key(key)).count();
        assert_eq!((num_found(&old), num_found(&new)), (found_old, found_new), "{num_tokens} blocks");
    }
    assert!(!list.grow_to(7 * BLOCK_TOKENS));
}

#[test]
fn of_two_lists_that_computed_the_same_block_one_is_kept() {
    let pool = pool_of(4);
    let keys = keys(0, &[7, 8]);
    let (mut one, mut other) = (pool.empty_list(), pool.empty_list());
    assert!(one.grow_to(BLOCK_TOKENS) && other.grow_to(2 * BLOCK_TOKENS));
    assert_ne!(one.as_slice()[0], other.as_slice()[0]);
    one.share(&keys[..1]);
    other.share(&keys);
    assert_eq!(one.as_slice()[0], other.as_slice()[0]);
    assert_eq!((pool.num_free(), one.adopt(&keys)), (2, 1));
    assert_eq!(one.as_slice(), other.as_slice());
}

/// Two threads: one takes and gives back pages of the same memory, as the adapters' side does while the engine plans.
#[test]
fn a_list_that_loses_the_race_for_memory_gives_back_what_it_took() {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    const NUM_BLOCKS: usize = 256;
    let (total_bytes, side) = ((2 * NUM_BLOCKS + 1) * PAGE_BYTES, SideLimits::default());
    let memory = DeviceMemory::new(MemoryConfig { total_bytes, kv: side, adapters: side }).unwrap();
    let pool = BlockPool::new(NUM_BLOCKS, memory.clone(), 2);
    let cached = keys(0, &[1, 2]);
    let is_over = AtomicBool::new(false);
    let (mut num_grown, mut num_lost) = (0, 0);
    let started = std::time::Instant::now();
    let is_late = || started.elapsed().as_secs() > 60;
    let adapters_side = || {
        for pages in (1..=8).cycle().take_while(|_| !is_over.load(Relaxed) && !is_late()) {
            if memory.take(Side::Adapters, pages) {
                if pages % 2 == 0 {
                    std::thread::yield_now();
                }
                memory.give_back(Side::Adapters, pages);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(adapters_side);
        for round in 0.. {
            if (num_grown >= 5 && num_lost >= 5) || is_late() {
                break;
            }
            let mut list = pool.empty_list();
            let found = list.adopt(&cached);
            let wanted = NUM_BLOCKS - round % 8;
            let has_grown = list.grow_to(wanted * BLOCK_TOKENS);
            assert_eq!(list.as_slice().len(), if has_grown { wanted } else { found });
            list.share(&cached[..list.as_slice().len().min(2)]);
            let mut books = lock(&pool.books);
            // What is free now and was absent before the attempt was taken in vain.
            num_lost += usize::from(!has_grown && !books.free.is_empty());
            num_grown += usize::from(has_grown);
            let num_listed = books.free.len() + books.idle.len() + books.absent.len();
            assert_eq!(num_listed + list.as_slice().len(), NUM_BLOCKS, "round {round}");
            assert_eq!(memory.used(Side::Kv), 2 * (NUM_BLOCKS - books.absent.len()), "round {round}");
            drop(books);
            drop(list);
            // All that is free becomes absent again.
            books = lock(&pool.books);
            let free = std::mem::take(&mut books.free);
            books.absent.extend(&free);
            drop(books);
            pool.paid_back(free.len());
        }
        is_over.store(true, Relaxed);
    });
    assert!(num_grown > 0 && num_lost > 0, "{num_grown} times it had its blocks, {num_lost} times it lost the race");
    assert_eq!((pool.num_free(), memory.used(Side::Adapters)), (NUM_BLOCKS, 0));
}

/// A sequence in the model: what its blocks have to hold.
struct Owner {
    list: BlockList,
    tenant: u8,
    contents: Vec<u8>,
    keys: Vec<BlockKey>,
    num_computed: usize,
}

#[derive(Clone, Debug)]
enum Op {
    /// Begins a sequence with this content, from what is in the cache.
    Begin {
        tenant: u8,
        contents: Vec<u8>,
    },
    /// Computes so many more blocks, and half of another if the last is true.
    Compute(usize, bool),
    /// Looks whether others have computed what comes next.
    Adopt,
    Release,
    /// The adapters' side takes so many pages, or says that it would like to.
    AdaptersTake(usize),
    AdaptersGiveBack,
    /// The engine looks between two steps whether it should give way.
    GiveWay,
    /// The scheduler says how many blocks are short.
    Ask(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..2u8, prop::collection::vec(0..2u8, 1..7)).prop_map(|(tenant, contents)| Op::Begin { tenant, contents }),
        6 => (0..3usize, any::<bool>()).prop_map(|(count, half)| Op::Compute(count, half)),
        2 => Just(Op::Adopt),
        1 => Just(Op::Release),
        2 => (1..12usize).prop_map(Op::AdaptersTake),
        1 => Just(Op::AdaptersGiveBack),
        2 => Just(Op::GiveWay),
        1 => (0..3usize).prop_map(Op::Ask),
    ]
}

/// What each block was last filled with: tenant and content from the chain's start.
type Written = HashMap<BlockId, (u8, Vec<u8>)>;

impl Owner {
    fn apply(&mut self, op: Op, written: &mut Written, others: &BTreeSet<BlockId>) {
        match op {
            Op::Begin { tenant, contents } => {
                self.list.release();
                self.keys = keys(tenant, &contents);
                (self.tenant, self.contents) = (tenant, contents);
                self.num_computed = self.list.adopt(&self.keys);
            }
            Op::Compute(count, half) => {
                let end = (self.num_computed + count).min(self.contents.len());
                let half = if half && end < self.contents.len() { BLOCK_TOKENS / 2 } else { 0 };
                if !self.list.grow_to(end * BLOCK_TOKENS + half) {
                    return;
                }
                for index in self.num_computed..self.list.as_slice().len() {
                    let block = self.list.as_slice()[index];
                    assert!(!others.contains(&block), "a block is written that others hold");
                    written.insert(block, (self.tenant, self.contents[..=index].to_vec()));
                }
                self.num_computed = end;
                self.list.share(&self.keys[..end]);
            }
            Op::Adopt => self.num_computed += self.list.adopt(&self.keys),
            Op::Release => {
                self.list.release();
                self.num_computed = 0;
            }
            Op::AdaptersTake(_) | Op::AdaptersGiveBack | Op::GiveWay | Op::Ask(_) => {}
        }
    }

    fn check(&self, written: &Written) {
        assert_eq!(self.list.num_shared(), self.num_computed);
        for (index, block) in self.list.as_slice()[..self.num_computed].iter().enumerate() {
            assert_eq!(written[block], (self.tenant, self.contents[..=index].to_vec()), "a block holds something else");
        }
    }
}

fn check_books(pool: &BlockPool, owners: &[Owner], written: &Written) {
    let books = lock(&pool.books);
    let mut num_holders = vec![0; pool.num_blocks];
    owners.iter().flat_map(|owner| owner.list.as_slice()).for_each(|block| num_holders[block.0 as usize] += 1);
    let free: BTreeSet<_> = books.free.iter().copied().collect();
    let idle: BTreeSet<_> = books.idle.values().copied().collect();
    let absent: BTreeSet<_> = books.absent.iter().copied().collect();
    let num_listed = books.free.len() + books.idle.len() + books.absent.len();
    assert_eq!(free.len() + idle.len() + absent.len(), num_listed, "a block is listed twice");
    let num_paid = pool.num_blocks - absent.len();
    assert_eq!(books.account.memory.used(Side::Kv), num_paid * books.account.pages_per_block, "each is paid for once");
    for (index, entry) in books.entries.iter().enumerate() {
        let block = BlockId(index as u32);
        assert_eq!(entry.num_holders, num_holders[index]);
        let places = [num_holders[index] > 0, free.contains(&block), idle.contains(&block), absent.contains(&block)];
        assert_eq!(places.iter().filter(|is_there| **is_there).count(), 1, "free, idle, absent and held are all");
        assert!(idle.contains(&block) == (entry.key.is_some() && entry.num_holders == 0));
        assert!(entry.key.is_none_or(|key| books.by_key.get(&key) == Some(&block)));
    }
    assert_eq!(books.by_key.len(), books.entries.iter().filter(|entry| entry.key.is_some()).count());
    for (key, block) in &books.by_key {
        let (tenant, contents) = &written[block];
        let chain = keys(*tenant, contents);
        assert_eq!(chain.last(), Some(key), "a block is found under another's name");
        assert!(chain.iter().all(|key| books.by_key.contains_key(key)), "the head went before its tail");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Against a simple model: no block leaked, none shared by sequences that differ in anything, none written while
    /// others hold it, all counts right; in memory of its own, and in memory that adapters take and give back
    /// meanwhile.
    #[test]
    fn the_pool_keeps_its_books(
        ops in prop::collection::vec((0..4usize, op()), 1..120),
        num_blocks in 4..20usize,
        floors in prop::option::of((0..20usize, 0..9usize)),
    ) {
        // Two pages a block, and a few for adapters alone.
        let memory = match floors {
            None => DeviceMemory::split(2 * num_blocks * PAGE_BYTES, 9 * PAGE_BYTES),
            Some((kv_floor, adapters_floor)) => {
                let floor = |pages: usize| SideLimits { floor_bytes: pages * PAGE_BYTES, cap_bytes: None };
                let (total_bytes, kv) = ((2 * num_blocks + 9) * PAGE_BYTES, floor(kv_floor.min(2 * num_blocks)));
                DeviceMemory::new(MemoryConfig { total_bytes, kv, adapters: floor(adapters_floor) })
            }
        };
        let memory = memory.unwrap();
        let pool = BlockPool::new(num_blocks, memory.clone(), 2);
        let owner = || Owner { list: pool.empty_list(), tenant: 0, contents: vec![], keys: vec![], num_computed: 0 };
        let mut owners: Vec<_> = (0..4).map(|_| owner()).collect();
        let mut written = Written::new();
        let mut num_taken = 0;
        for (index, op) in ops {
            match &op {
                Op::AdaptersTake(pages) => {
                    if memory.take(Side::Adapters, *pages) { num_taken += pages } else { memory.ask(Side::Adapters, *pages) }
                }
                Op::AdaptersGiveBack => memory.give_back(Side::Adapters, std::mem::take(&mut num_taken)),
                Op::Ask(num_short) => pool.ask(*num_short),
                Op::GiveWay => {
                    let given = pool.give_way();
                    given.iter().for_each(|block| drop(written.remove(block)));
                    pool.paid_back(given.len());
                }
                _ => {}
            }
            let others = owners.iter().enumerate().filter(|(other, _)| *other != index);
            let others = others.flat_map(|(_, owner)| owner.list.as_slice()).copied().collect();
            owners[index].apply(op, &mut written, &others);
            owners.iter().for_each(|owner| owner.check(&written));
            check_books(&pool, &owners, &written);
        }
        drop(owners);
        pool.ask(0);
        memory.give_back(Side::Adapters, num_taken);
        memory.ask(Side::Adapters, 0);
        prop_assert_eq!(pool.num_free(), num_blocks);
    }
}
