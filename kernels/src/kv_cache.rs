//! The paged cache of keys and values, f16.

use half::f16;

use crate::KernelError;
use crate::cpu::simd::LANES;
use crate::error::{check_equal, check_index, check_limit};

/// Tokens per block of the cache.
pub const BLOCK_TOKENS: usize = LANES;

/// The widest head that the attention kernel's registers and stack are laid out for.
pub const MAX_HEAD_DIM: usize = 256;

/// A pool of blocks of 16 tokens, for every layer and key-value head.
///
/// Within a block and head, keys lie transposed, `[head_dim][16 tokens]`, so that 16 scores are 16 lanes; values lie
/// `[16 tokens][head_dim]`, the width filled up to a multiple of 16. Slots that no token has written may hold anything.
pub struct KvCache {
    num_layers: usize,
    num_blocks: usize,
    num_kv_heads: usize,
    head_dim: usize,
    keys: Vec<[u16; LANES]>,
    values: Vec<[u16; LANES]>,
}

impl KvCache {
    /// A zeroed pool. Memory is taken from the system as blocks are first written.
    pub fn new(num_layers: usize, num_blocks: usize, num_kv_heads: usize, head_dim: usize) -> KvCache {
        let num_heads = num_layers * num_blocks * num_kv_heads;
        let value_vectors = head_dim.div_ceil(LANES);
        KvCache {
            num_layers,
            num_blocks,
            num_kv_heads,
            head_dim,
            keys: vec![[0; LANES]; num_heads * head_dim],
            values: vec![[0; LANES]; num_heads * BLOCK_TOKENS * value_vectors],
        }
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

    /// Bytes of the pool.
    pub fn size_bytes(&self) -> usize {
        size_of_val(self.keys.as_slice()) + size_of_val(self.values.as_slice())
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
        &self.keys[self.index(layer, block, head) * self.head_dim..][..self.head_dim]
    }

    /// Values of a block: `[16][value_vectors]`.
    #[inline(always)]
    pub(crate) fn values(&self, layer: usize, block: usize, head: usize) -> &[[u16; LANES]] {
        let size = BLOCK_TOKENS * self.value_vectors();
        &self.values[self.index(layer, block, head) * size..][..size]
    }

    /// Number of (layer, block, head) in the order of memory.
    #[inline(always)]
    pub(crate) fn index(&self, layer: usize, block: usize, head: usize) -> usize {
        (layer * self.num_blocks + block) * self.num_kv_heads + head
    }

    /// Keys and values, for the op that stores them.
    pub(crate) fn parts_mut(&mut self) -> (&mut [[u16; LANES]], &mut [[u16; LANES]]) {
        (&mut self.keys, &mut self.values)
    }
}
