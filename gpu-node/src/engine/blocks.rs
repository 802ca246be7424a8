//! The pool of KV blocks: who holds which, and what is in those that nobody holds.
//!
//! A block is held by any number of [`BlockList`]s, or idle, or free. A list gives its blocks back when it is dropped. A
//! full block that was offered under its [`BlockKey`] is shared: other lists adopt it and nobody writes into it any more.
//! When its last holder lets go it becomes idle, that is, it keeps its content until the pool needs the room; a block
//! that was never shared becomes free. New blocks are taken from the free ones first, then from the idle ones, the least
//! recently used first.
//!
//! Whoever holds a shared block holds all shared blocks before it in its chain, and gives them back after it. So of one
//! chain the tail is evicted before its head, and a block that can be found is never behind one that cannot.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::prefix::BlockKey;
use super::runner::{BLOCK_TOKENS, BlockId};

/// All KV blocks of a runner.
#[derive(Clone, Debug)]
pub struct BlockPool {
    /// Shared with the lists, which return blocks on drop. One thread uses it, so the lock is never waited for.
    books: Arc<Mutex<Books>>,
    num_blocks: usize,
}

/// The blocks of one sequence, in order of position.
#[derive(Debug)]
pub struct BlockList {
    blocks: Vec<BlockId>,
    /// How many of them, from the first, can be found by others and must not be written.
    num_shared: usize,
    books: Arc<Mutex<Books>>,
}

#[derive(Debug)]
struct Books {
    entries: Vec<Entry>,
    /// Blocks without content.
    free: Vec<BlockId>,
    /// Shared blocks, whether held or idle.
    by_key: HashMap<BlockKey, BlockId>,
    /// Shared blocks that nobody holds, by the time of their last release.
    idle: BTreeMap<u64, BlockId>,
    clock: u64,
    num_evicted: u64,
}

/// What is known of one block.
#[derive(Clone, Debug, Default)]
struct Entry {
    num_holders: usize,
    /// Present while it is shared.
    key: Option<BlockKey>,
    /// Its key in `idle` while it is there.
    released_at: u64,
}

/// Number of blocks that `num_tokens` tokens occupy.
#[must_use]
pub const fn blocks_for(num_tokens: usize) -> usize {
    num_tokens.div_ceil(BLOCK_TOKENS)
}

impl BlockPool {
    /// A pool in which all blocks are free.
    #[must_use]
    pub fn new(num_blocks: usize) -> Self {
        let all = (0..num_blocks).rev().filter_map(|block| u32::try_from(block).ok()).map(BlockId);
        let books = Books {
            entries: vec![Entry::default(); num_blocks],
            free: all.collect(),
            by_key: HashMap::new(),
            idle: BTreeMap::new(),
            clock: 0,
            num_evicted: 0,
        };
        Self { books: Arc::new(Mutex::new(books)), num_blocks }
    }

    /// How many blocks there are in all.
    #[must_use]
    pub const fn num_blocks(&self) -> usize {
        self.num_blocks
    }

    /// How many blocks nobody holds; those with content that may be found again are among them.
    #[must_use]
    pub fn num_free(&self) -> usize {
        lock(&self.books).num_free()
    }

    /// How many blocks nobody holds that have content which may be found again.
    #[must_use]
    pub fn num_idle(&self) -> usize {
        lock(&self.books).idle.len()
    }

    /// How many blocks lost such content so far because the room was needed.
    #[must_use]
    pub fn num_evicted(&self) -> u64 {
        lock(&self.books).num_evicted
    }

    /// A list without blocks.
    #[must_use]
    pub fn empty_list(&self) -> BlockList {
        BlockList { blocks: Vec::new(), num_shared: 0, books: Arc::clone(&self.books) }
    }
}

impl BlockList {
    /// Takes blocks until the list holds `num_tokens` tokens. If too few can be had it takes none and returns false.
    #[must_use]
    pub fn grow_to(&mut self, num_tokens: usize) -> bool {
        let missing = blocks_for(num_tokens).saturating_sub(self.blocks.len());
        let mut books = lock(&self.books);
        if books.num_free() < missing {
            return false;
        }
        self.blocks.extend((0..missing).map_while(|_| books.take()));
        true
    }

    /// Adopts shared blocks after those that it shares already, for as long as there is one under the next of `keys`
    /// (which begin at the list's start). A block of its own in that place, which is not full yet, is given back. Returns
    /// how many.
    pub fn adopt(&mut self, keys: &[BlockKey]) -> usize {
        let before = self.num_shared;
        let mut books = lock(&self.books);
        for key in keys.iter().skip(before) {
            let Some(block) = books.hold(key) else { break };
            put(&mut self.blocks, self.num_shared, block, &mut books);
            self.num_shared += 1;
        }
        self.num_shared - before
    }

    /// Offers the first `keys.len()` blocks, which are complete, to others. Where a block with the same content is shared
    /// already, it takes the place of the own one.
    pub fn share(&mut self, keys: &[BlockKey]) {
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
    pub fn release(&mut self) {
        let mut books = lock(&self.books);
        self.blocks.drain(..).rev().for_each(|block| books.let_go(block));
        self.num_shared = 0;
    }

    /// The blocks, in order of position.
    #[must_use]
    pub fn as_slice(&self) -> &[BlockId] {
        &self.blocks
    }

    /// How many of the blocks, from the first, can be found by others and must not be written.
    #[must_use]
    pub const fn num_shared(&self) -> usize {
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
        self.free.len() + self.idle.len()
    }

    /// A block for its first holder.
    fn take(&mut self) -> Option<BlockId> {
        let block = self.free.pop().or_else(|| self.evict())?;
        self.entry(block).num_holders = 1;
        Some(block)
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

    fn entry(&mut self, block: BlockId) -> &mut Entry {
        &mut self.entries[block.0 as usize]
    }
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
