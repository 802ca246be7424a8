//! The pool of KV blocks: who holds which.
//!
//! A block belongs to the free list or to exactly one [`BlockList`]; a list gives its blocks back when it is dropped.
//! A prefix cache would sit between the two: a list would return its full blocks to the cache, and the cache its oldest
//! ones to the free list.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::runner::{BLOCK_TOKENS, BlockId};

/// All KV blocks of a runner.
#[derive(Clone, Debug)]
pub struct BlockPool {
    /// Shared with the lists, which return blocks on drop. One thread uses it, so the lock is never waited for.
    free: Arc<Mutex<Vec<BlockId>>>,
    num_blocks: usize,
}

/// The blocks of one sequence, in order of position.
#[derive(Debug)]
pub struct BlockList {
    blocks: Vec<BlockId>,
    free: Arc<Mutex<Vec<BlockId>>>,
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
        Self { free: Arc::new(Mutex::new(all.collect())), num_blocks }
    }

    /// How many blocks there are in all.
    #[must_use]
    pub const fn num_blocks(&self) -> usize {
        self.num_blocks
    }

    /// How many blocks nobody holds.
    #[must_use]
    pub fn num_free(&self) -> usize {
        lock(&self.free).len()
    }

    /// A list without blocks.
    #[must_use]
    pub fn empty_list(&self) -> BlockList {
        BlockList { blocks: Vec::new(), free: Arc::clone(&self.free) }
    }
}

impl BlockList {
    /// Takes blocks until the list holds `num_tokens` tokens. If too few are free it takes none and returns false.
    #[must_use]
    pub fn grow_to(&mut self, num_tokens: usize) -> bool {
        let missing = blocks_for(num_tokens).saturating_sub(self.blocks.len());
        let mut free = lock(&self.free);
        let Some(kept) = free.len().checked_sub(missing) else { return false };
        self.blocks.extend(free.drain(kept..).rev());
        true
    }

    /// Gives all blocks back.
    pub fn release(&mut self) {
        lock(&self.free).extend(self.blocks.drain(..).rev());
    }

    /// The blocks, in order of position.
    #[must_use]
    pub fn as_slice(&self) -> &[BlockId] {
        &self.blocks
    }
}

impl Drop for BlockList {
    fn drop(&mut self) {
        self.release();
    }
}

fn lock(free: &Mutex<Vec<BlockId>>) -> MutexGuard<'_, Vec<BlockId>> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn growing_takes_only_what_is_missing() {
        let pool = BlockPool::new(4);
        let mut list = pool.empty_list();
        assert!(list.grow_to(1));
        let first = list.as_slice().to_vec();
        assert!(list.grow_to(BLOCK_TOKENS) && list.as_slice() == first);
        assert!(list.grow_to(BLOCK_TOKENS + 1) && list.as_slice().len() == 2);
        assert_eq!(list.as_slice()[0], first[0]);
        assert!(!list.grow_to(5 * BLOCK_TOKENS), "there are only four");
        assert_eq!((list.as_slice().len(), pool.num_free()), (2, 2), "a refusal takes nothing");
    }

    proptest! {
        #[test]
        fn no_block_is_lost_or_held_twice(ops in prop::collection::vec((0..5usize, 0..200usize), 0..80)) {
            let pool = BlockPool::new(20);
            let mut lists: Vec<_> = (0..5).map(|_| pool.empty_list()).collect();
            for (index, num_tokens) in ops {
                match num_tokens % 4 {
                    0 => lists[index].release(),
                    1 => lists[index] = pool.empty_list(),
                    _ => {
                        let fits = blocks_for(num_tokens).saturating_sub(lists[index].as_slice().len()) <= pool.num_free();
                        prop_assert_eq!(lists[index].grow_to(num_tokens), fits);
                    }
                }
                let held: Vec<_> = lists.iter().flat_map(|list| list.as_slice().to_vec()).collect();
                let distinct: BTreeSet<_> = held.iter().copied().collect();
                prop_assert_eq!(distinct.len(), held.len());
                prop_assert_eq!(held.len() + pool.num_free(), pool.num_blocks());
            }
            drop(lists);
            prop_assert_eq!(pool.num_free(), 20);
        }
    }
}
