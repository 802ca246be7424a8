//! Rotates queries and keys by position and stores keys and values in the cache.

use crate::cpu::backend::Kernel;
use crate::cpu::isa::simd::{LANES, Simd};
use crate::cpu::rope_table::RopeTable;
use crate::cpu::shared::SharedMut;
use crate::runs::BLOCK_TOKENS;

/// A chunk is some rows: it rotates them and stores their keys and values, in order. No two chunks have rows in one
/// block of the cache.
pub(crate) struct RopeStore<'a> {
    pub(crate) rope: &'a RopeTable,
    pub(crate) q: SharedMut<'a, f32>,
    pub(crate) k: SharedMut<'a, f32>,
    pub(crate) v: &'a [f32],
    pub(crate) positions: &'a [u32],
    pub(crate) slots: &'a [u32],
    pub(crate) num_heads: usize,
    pub(crate) num_kv_heads: usize,
    pub(crate) head_dim: usize,
    /// Where the layer's head 0 begins in block 0 of the cache.
    pub(crate) first_vector: usize,
    /// From one block to the next.
    pub(crate) block_vectors: usize,
    pub(crate) cache: SharedMut<'a, [u16; LANES]>,
    /// The rows where chunks begin, and after them the number of rows.
    pub(crate) bounds: &'a [usize],
}

impl RopeStore<'_> {
    pub(crate) fn num_chunks(&self) -> usize {
        self.bounds.len() - 1
    }

    #[inline(always)]
    fn rotate_queries<S: Simd>(&self, s: S, row: usize) {
        let width = self.num_heads * self.head_dim;
        // SAFETY: a row of queries belongs to one chunk.
        let q = unsafe { self.q.part(row * width, width) };
        for head in q.chunks_mut(self.head_dim) {
            rotate(s, self.rope, self.positions[row], head);
        }
    }

    #[inline(always)]
    fn store<S: Simd>(&self, s: S, row: usize) {
        let (dim, width) = (self.head_dim, self.num_kv_heads * self.head_dim);
        let value_vectors = dim.div_ceil(LANES);
        let slot = self.slots[row] as usize;
        let (block, token) = (slot / BLOCK_TOKENS, slot % BLOCK_TOKENS);
        for head in 0..self.num_kv_heads {
            // SAFETY: a row of the keys belongs to one chunk.
            let k = unsafe { self.k.part(row * width + head * dim, dim) };
            rotate(s, self.rope, self.positions[row], k);
            let head_vectors = dim + BLOCK_TOKENS * value_vectors;
            let first = self.first_vector + block * self.block_vectors + head * head_vectors;
            // SAFETY: a block of the cache belongs to one chunk.
            let keys = unsafe { self.cache.part(first, dim) };
            // SAFETY: as above, and values do not overlap keys.
            let values = unsafe { self.cache.part(first + dim + token * value_vectors, value_vectors) };
            for (k, keys) in k.chunks(LANES).zip(keys.chunks_mut(LANES)) {
                let mut halves = [0; LANES];
                s.store_f16(s.load_part(k), &mut halves);
                for (half, key) in halves.into_iter().zip(keys) {
                    key[token] = half;
                }
            }
            let v = &self.v[row * width + head * dim..][..dim];
            for (v, value) in v.chunks(LANES).zip(values) {
                s.store_f16(s.load_part(v), value);
            }
        }
    }
}

impl Kernel for RopeStore<'_> {
    #[inline(always)]
    fn run_chunk<S: Simd>(&self, s: S, chunk: usize) {
        for row in self.bounds[chunk]..self.bounds[chunk + 1] {
            self.rotate_queries(s, row);
            self.store(s, row);
        }
    }
}

/// `(a, b) -> (a cos - b sin, b cos + a sin)` for the pairs `i`, `i + dim / 2` of a head.
#[inline(always)]
fn rotate<S: Simd>(s: S, rope: &RopeTable, position: u32, head: &mut [f32]) {
    let (cos, sin) = rope.at(position as usize);
    let (first, second) = head.split_at_mut(cos.len());
    let pairs = first.chunks_mut(LANES).zip(second.chunks_mut(LANES));
    for ((first, second), (cos, sin)) in pairs.zip(cos.chunks(LANES).zip(sin.chunks(LANES))) {
        let (a, b) = (s.load_part(first), s.load_part(second));
        let (cos, sin) = (s.load_part(cos), s.load_part(sin));
        s.store_part(s.sub(s.mul(a, cos), s.mul(b, sin)), first);
        s.store_part(s.add(s.mul(b, cos), s.mul(a, sin)), second);
    }
}
