//! The pool of KV blocks: who holds which, and what is in those that nobody holds.
//!
//! A block is held by any number of [`BlockList`]s, or idle, or free, or absent. A list gives its blocks back when it
//! is dropped. A full block that was offered under its [`BlockKey`] is shared: other lists adopt it and nobody writes
//! into it any more. When its last holder lets go it becomes idle, that is, it keeps its content until the pool needs
//! the room; a block that was never shared becomes free. New blocks are taken from the free ones first, then from the
//! absent ones, then from the idle ones, the least recently used first.
//!
//! Absent blocks have no memory: the pool shares the device with the adapters, and takes pages from the common ledger
//! when it first needs them. It keeps them until the adapters ask, and then gives up free blocks, and idle ones if it
//! must.
//!
//! A sequence that holds a shared block holds all shared blocks before it in its chain, and gives them back after it.
//! So of one chain the tail is evicted before its head, and a block that can be found is never behind one that cannot.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use souk_runner::{BLOCK_TOKENS, BlockId};

use super::prefix::BlockKey;
use crate::device_memory::{DeviceMemory, Side};

/// All KV blocks of a runner.
#[derive(Clone, Debug)]
pub(crate) struct BlockPool {
    /// Shared with the lists, which return blocks on drop. One thread uses it, so the lock is never waited for.
    books: Arc<Mutex<Books>>,
    num_blocks: usize,
}

/// The blocks of one sequence, in order of position.
#[derive(Debug)]
pub(crate) struct BlockList {
    blocks: Vec<BlockId>,
    /// How many of them, from the first, can be found by others and must not be written.
    num_shared: usize,
    books: Arc<Mutex<Books>>,
}

#[derive(Debug)]
struct Books {
    entries: Vec<BlockEntry>,
    /// Blocks without content.
    free: Vec<BlockId>,
    /// Blocks without memory.
    absent: Vec<BlockId>,
    /// Where memory comes from.
    account: Account,
    /// Shared blocks, whether held or idle.
    by_key: HashMap<BlockKey, BlockId>,
    /// Shared blocks that nobody holds, by the time of their last release.
    idle: BTreeMap<u64, BlockId>,
    clock: u64,
    num_evicted: u64,
}

/// What is known of one block.
#[derive(Clone, Debug, Default)]
struct BlockEntry {
    num_holders: usize,
    /// Present while it is shared.
    key: Option<BlockKey>,
    /// Its key in `idle` while it is there.
    released_at: u64,
}

/// The pool's account with the ledger of the device's memory.
#[derive(Clone, Debug)]
struct Account {
    memory: DeviceMemory,
    pages_per_block: usize,
    /// Blocks that were asked for last.
    num_asked: usize,
}

/// Which share of the blocks long requests leave to short ones: one in so many. Idle content stays in them meanwhile.
const RESERVED_SHARE: usize = 16;

/// Of so many blocks, those that are kept for tenants' first, short requests. No request may need more than the others.
#[must_use]
pub(crate) const fn reserve_of(num_blocks: usize) -> usize {
    num_blocks / RESERVED_SHARE
}

/// Number of blocks that `num_tokens` tokens occupy.
#[must_use]
pub(crate) const fn blocks_for(num_tokens: usize) -> usize {
    num_tokens.div_ceil(BLOCK_TOKENS)
}

impl BlockPool {
    /// A pool that takes memory from a ledger, in which all blocks are absent.
    #[must_use]
    pub(crate) fn new(num_blocks: usize, memory: DeviceMemory, pages_per_block: usize) -> Self {
        let books = Books {
            entries: vec![BlockEntry::default(); num_blocks],
            free: Vec::new(),
            absent: all_blocks(num_blocks),
            account: Account { memory, pages_per_block, num_asked: 0 },
            by_key: HashMap::new(),
            idle: BTreeMap::new(),
            clock: 0,
            num_evicted: 0,
        };
        Self { books: Arc::new(Mutex::new(books)), num_blocks }
    }

    /// How many blocks there are in all.
    #[must_use]
    pub(crate) const fn num_blocks(&self) -> usize {
        self.num_blocks
    }

    /// How many blocks could be taken: nobody holds them, and there is memory for them. Those with content that may be
    /// found again are among them.
    #[must_use]
    pub(crate) fn num_free(&self) -> usize {
        lock(&self.books).num_free()
    }

    /// Blocks that are kept for tenants' first, short requests: one in [`RESERVED_SHARE`] of those that there always is
    /// memory for.
    #[must_use]
    pub(crate) fn reserve(&self) -> usize {
        let account = &lock(&self.books).account;
        reserve_of((account.memory.floor(Side::Kv) / account.pages_per_block).min(self.num_blocks))
    }

    /// How many blocks nobody holds that have content which may be found again.
    #[must_use]
    pub(crate) fn num_idle(&self) -> usize {
        lock(&self.books).idle.len()
    }

    /// How many blocks lost such content so far because the room was needed.
    #[must_use]
    pub(crate) fn num_evicted(&self) -> u64 {
        lock(&self.books).num_evicted
    }

    /// Asks the adapters' side for the memory of so many blocks beyond what could be taken; 0 withdraws what was asked
    /// for.
    pub(crate) fn ask(&self, num_blocks: usize) {
        let mut books = lock(&self.books);
        let num_blocks = num_blocks.min(books.absent.len());
        let account = &mut books.account;
        if num_blocks == 0 && account.num_asked == 0 {
            return;
        }
        account.num_asked = num_blocks;
        // What could be taken now counts towards the wish.
        let affordable = account.memory.available(Side::Kv);
        let pages = if num_blocks == 0 { 0 } else { affordable + num_blocks * account.pages_per_block };
        let most = account.memory.most(Side::Kv).saturating_sub(account.memory.used(Side::Kv));
        account.memory.ask(Side::Kv, pages.min(most));
    }

    /// Makes blocks absent that nobody holds, if the adapters' side wants memory and this side wants none itself: free
    /// ones, then the idle ones that were used longest ago. Their content is to be discarded before
    /// [`paid_back`](Self::paid_back).
    #[must_use]
    pub(crate) fn give_way(&self) -> Vec<BlockId> {
        let mut books = lock(&self.books);
        let account = &books.account;
        let owed = account.memory.owes(Side::Kv).div_ceil(account.pages_per_block);
        if account.num_asked > 0 {
            return Vec::new();
        }
        let given: Vec<_> = (0..owed).map_while(|_| books.free.pop().or_else(|| books.evict())).collect();
        books.absent.extend(&given);
        given
    }

    /// Gives back the memory of so many blocks that were made absent.
    pub(crate) fn paid_back(&self, num_blocks: usize) {
        let account = &lock(&self.books).account;
        account.memory.give_back(Side::Kv, num_blocks * account.pages_per_block);
    }

    /// A list without blocks.
    #[must_use]
    pub(crate) fn empty_list(&self) -> BlockList {
        BlockList { blocks: Vec::new(), num_shared: 0, books: Arc::clone(&self.books) }
    }
}

impl BlockList {
    /// Takes blocks until the list holds `num_tokens` tokens. If too few can be had it takes none and returns false.
    #[must_use]
    pub(crate) fn grow_to(&mut self, num_tokens: usize) -> bool {
        let before = self.blocks.len();
        let missing = blocks_for(num_tokens).saturating_sub(before);
        let mut books = lock(&self.books);
        if books.num_free() < missing {
            return false;
        }
        self.blocks.extend((0..missing).map_while(|_| books.take()));
        let is_enough = self.blocks.len() == before + missing;
        if !is_enough {
            // The adapters' side was quicker.
            self.blocks.drain(before..).rev().for_each(|block| books.let_go(block));
        }
        is_enough
    }

    /// Adopts shared blocks after those that it shares already, for as long as there is one under the next of `keys`
    /// (which begin at the list's start). A block of its own in that place, which is not full yet, is given back.
    /// Returns how many.
    pub(crate) fn adopt(&mut self, keys: &[BlockKey]) -> usize {
        let before = self.num_shared;
        let mut books = lock(&self.books);
        for key in keys.iter().skip(before) {
            let Some(block) = books.hold(key) else { break };
            put(&mut self.blocks, self.num_shared, block, &mut books);
            self.num_shared += 1;
        }
        self.num_shared - before
    }

    /// Offers the first `keys.len()` blocks, which are complete, to others. Where a block with the same content is
    /// shared already, it takes the place of the own one.
    pub(crate) fn share(&mut self, keys: &[BlockKey]) {
        let mut books = lock(&self.books);
        for key in keys.iter().skip(self.num_shared) {
            if let Some(block) = books.hold(key) {
                put(&mut self.blocks, self.num_shared, block, &mut books);
            } else {
                books.publish(self.blocks[self.num_shared], *key);
            }
            self.num_shared += 1;
        }
    }

    /// Gives all blocks back, the last first.
    pub(crate) fn release(&mut self) {
        let mut books = lock(&self.books);
        self.blocks.drain(..).rev().for_each(|block| books.let_go(block));
        self.num_shared = 0;
    }

    /// The blocks, in order of position.
    #[must_use]
    pub(crate) fn as_slice(&self) -> &[BlockId] {
        &self.blocks
    }

    /// How many of the blocks, from the first, can be found by others and must not be written.
    #[must_use]
    pub(crate) const fn num_shared(&self) -> usize {
        self.num_shared
    }
}

impl Drop for BlockList {
    fn drop(&mut self) {
        self.release();
    }
}

impl Books {
    fn num_free(&self) -> usize {
        let affordable = self.account.memory.available(Side::Kv) / self.account.pages_per_block;
        self.free.len() + self.idle.len() + affordable.min(self.absent.len())
    }

    /// A block for its first holder.
    fn take(&mut self) -> Option<BlockId> {
        let block = self.free.pop().or_else(|| self.pay()).or_else(|| self.evict())?;
        self.entry(block).num_holders = 1;
        Some(block)
    }

    /// Takes memory for an absent block.
    fn pay(&mut self) -> Option<BlockId> {
        let Account { memory, pages_per_block, .. } = &self.account;
        let is_paid = !self.absent.is_empty() && memory.take(Side::Kv, *pages_per_block);
        if is_paid { self.absent.pop() } else { None }
    }

    /// Forgets the content of the block that has been idle for longest.
    fn evict(&mut self) -> Option<BlockId> {
        let (_, block) = self.idle.pop_first()?;
        if let Some(key) = self.entry(block).key.take() {
            self.by_key.remove(&key);
        }
        self.num_evicted += 1;
        Some(block)
    }

    /// Holds the shared block under this key, if there is one.
    fn hold(&mut self, key: &BlockKey) -> Option<BlockId> {
        let block = *self.by_key.get(key)?;
        let entry = self.entry(block);
        entry.num_holders += 1;
        if entry.num_holders == 1 {
            let released_at = entry.released_at;
            self.idle.remove(&released_at);
        }
        Some(block)
    }

    /// Makes a held block shared under a key that no other has.
    fn publish(&mut self, block: BlockId, key: BlockKey) {
        self.entry(block).key = Some(key);
        self.by_key.insert(key, block);
    }

    fn let_go(&mut self, block: BlockId) {
        self.clock += 1;
        let now = self.clock;
        let entry = self.entry(block);
        entry.num_holders -= 1;
        entry.released_at = now;
        match (entry.num_holders, entry.key) {
            (0, Some(_)) => {
                self.idle.insert(now, block);
            }
            (0, None) => self.free.push(block),
            _ => {}
        }
    }

    fn entry(&mut self, block: BlockId) -> &mut BlockEntry {
        &mut self.entries[block.0 as usize]
    }
}

/// All blocks, to be taken from the end.
fn all_blocks(num_blocks: usize) -> Vec<BlockId> {
    (0..num_blocks).rev().filter_map(|block| u32::try_from(block).ok()).map(BlockId).collect()
}

/// Puts a block into a place of a list; what is there goes back.
fn put(blocks: &mut Vec<BlockId>, index: usize, block: BlockId, books: &mut Books) {
    match blocks.get_mut(index) {
        Some(own) => books.let_go(std::mem::replace(own, block)),
        None => blocks.push(block),
    }
}

fn lock(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
