//! The paged cache of keys and values, f16.

use half::f16;

use crate::cpu::arena::{Arena, PAGE_BYTES};
use crate::cpu::isa::simd::LANES;
use crate::error::{KernelError, check_equal, check_index, check_limit};
use crate::runs::BLOCK_TOKENS;

// Scores of a block are one vector.
const _: () = assert!(BLOCK_TOKENS == LANES);

const VECTOR_BYTES: usize = size_of::<[u16; LANES]>();

/// The widest head that the attention kernel's registers and stack are laid out for.
pub const MAX_HEAD_DIM: usize = 256;

/// A pool of blocks of 16 tokens, for every layer and key-value head.
///
/// A block is one stretch of memory that begins on a page, `[layer][head]` of keys, then values, so that it can be
/// given back to the system alone. Keys lie transposed, `[head_dim][16 tokens]`, so that 16 scores are 16 lanes; values
/// lie `[16 tokens][head_dim]`, the width filled up to a multiple of 16. Slots that no token has written may hold
/// anything.
pub struct KvCache {
    num_layers: usize,
    num_blocks: usize,
    num_kv_heads: usize,
    head_dim: usize,
    vectors: Arena<[u16; LANES]>,
}

impl KvCache {
    /// A zeroed pool. Memory is taken from the system as blocks are first written.
    pub fn new(num_layers: usize, num_blocks: usize, num_kv_heads: usize, head_dim: usize) -> KvCache {
        let block_vectors = KvCache::block_bytes_for(num_layers, num_kv_heads, head_dim) / VECTOR_BYTES;
        let vectors = Arena::new(num_blocks.saturating_mul(block_vectors));
        KvCache { num_layers, num_blocks, num_kv_heads, head_dim, vectors }
    }

    /// Bytes that a block of such a pool takes: whole pages.
    pub const fn block_bytes_for(num_layers: usize, num_kv_heads: usize, head_dim: usize) -> usize {
        let heads = num_layers * num_kv_heads;
        (heads * head_vectors(head_dim) * VECTOR_BYTES).next_multiple_of(PAGE_BYTES)
    }

    /// Bytes that a block takes once it has been written.
    pub fn block_bytes(&self) -> usize {
        KvCache::block_bytes_for(self.num_layers, self.num_kv_heads, self.head_dim)
    }

    /// Gives the memory of a block back to the system. It can be written again as if it were new.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn discard(&mut self, block: usize) {
        assert!(block < self.num_blocks, "block {block} of {}", self.num_blocks);
        let block_vectors = self.block_vectors();
        self.vectors.discard(block * block_vectors..(block + 1) * block_vectors);
    }

    /// Layers of the model.
    pub fn num_layers(&self) -> usize {
        self.num_layers
    }

    /// Blocks in the pool.
    pub fn num_blocks(&self) -> usize {
        self.num_blocks
    }

    /// Key-value heads of a layer.
    pub fn num_kv_heads(&self) -> usize {
        self.num_kv_heads
    }

    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Bytes of the pool when every block has been written.
    pub fn size_bytes(&self) -> usize {
        size_of_val(&*self.vectors)
    }

    /// Key and value of one head in a slot (`block * 16 + offset`), as stored: to look into a cache.
    ///
    /// # Panics
    /// If there is no such layer, slot or head.
    pub fn read(&self, layer: usize, slot: usize, head: usize) -> (Vec<f32>, Vec<f32>) {
        assert!(layer < self.num_layers && head < self.num_kv_heads && slot < self.num_blocks * BLOCK_TOKENS);
        let (block, token) = (slot / BLOCK_TOKENS, slot % BLOCK_TOKENS);
        let to_f32 = |bits: u16| f16::from_bits(bits).to_f32();
        let key = self.keys(layer, block, head).iter().map(|tokens| to_f32(tokens[token])).collect();
        let vectors = &self.values(layer, block, head)[token * self.value_vectors()..][..self.value_vectors()];
        let value = vectors.as_flattened()[..self.head_dim].iter().map(|bits| to_f32(*bits)).collect();
        (key, value)
    }

    /// Vectors of 16 that hold one token's values of one head.
    pub(crate) fn value_vectors(&self) -> usize {
        self.head_dim.div_ceil(LANES)
    }

    /// Checks what every op that takes a cache needs.
    pub(crate) fn check(&self, op: &'static str, layer: usize, num_heads: usize) -> Result<(), KernelError> {
        check_index(op, "layer", self.num_layers, layer)?;
        check_limit(op, "head_dim", MAX_HEAD_DIM, self.head_dim)?;
        if self.head_dim == 0 {
            return Err(KernelError::Shape { op, what: "head_dim", expected: 1, given: 0 });
        }
        let remainder = num_heads.checked_rem(self.num_kv_heads).unwrap_or(num_heads);
        check_equal(op, "remainder of num_heads by num_kv_heads", 0, remainder)
    }

    /// Keys of a block: `[head_dim][16]`.
    #[inline(always)]
    pub(crate) fn keys(&self, layer: usize, block: usize, head: usize) -> &[[u16; LANES]] {
        &self.vectors[self.index(layer, block, head)..][..self.head_dim]
    }

    /// Values of a block: `[16][value_vectors]`.
    #[inline(always)]
    pub(crate) fn values(&self, layer: usize, block: usize, head: usize) -> &[[u16; LANES]] {
        &self.vectors[self.index(layer, block, head) + self.head_dim..][..BLOCK_TOKENS * self.value_vectors()]
    }

    /// Where a head of a layer begins in a block: first its keys, then its values.
    #[inline(always)]
    pub(crate) fn index(&self, layer: usize, block: usize, head: usize) -> usize {
        block * self.block_vectors() + (layer * self.num_kv_heads + head) * head_vectors(self.head_dim)
    }

    /// Vectors from one block to the next.
    #[inline(always)]
    pub(crate) fn block_vectors(&self) -> usize {
        self.block_bytes() / VECTOR_BYTES
    }

    /// All of it, for the op that stores.
    pub(crate) fn vectors_mut(&mut self) -> &mut [[u16; LANES]] {
        &mut self.vectors
    }
}

/// Vectors of one head of one layer in a block.
const fn head_vectors(head_dim: usize) -> usize {
    head_dim + BLOCK_TOKENS * head_dim.div_ceil(LANES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discarded_block_leaves_its_neighbours_alone() {
        let mut cache = KvCache::new(2, 3, 2, 20);
        assert_eq!(cache.block_bytes(), 8192, "2 * 2 * (20 + 16 * 2) vectors of 32 bytes, in whole pages");
        let num_vectors = cache.block_vectors();
        for (block, number) in [(0, 0x3c00), (1, 0x4000), (2, 0x4200)] {
            cache.vectors_mut()[block * num_vectors..][..num_vectors].fill([number; LANES]);
        }
        cache.discard(1);
        assert_eq!(cache.read(1, 15, 1), (vec![1.0; 20], vec![1.0; 20]));
        assert_eq!(cache.read(0, 32, 0), (vec![3.0; 20], vec![3.0; 20]));
    }

    #[test]
    fn heads_of_a_block_follow_one_another_without_overlap() {
        let cache = KvCache::new(3, 2, 2, 8);
        let heads = (0..3).flat_map(|layer| (0..2).map(move |head| (layer, head)));
        let starts: Vec<_> = heads.map(|(layer, head)| cache.index(layer, 1, head)).collect();
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == 8 + 16));
        assert_eq!(starts[0], cache.block_vectors());
        assert!(starts[5] + 24 <= 2 * cache.block_vectors());
    }
}
