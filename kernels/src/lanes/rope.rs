//! Rotates queries and keys by position and stores keys and values in the cache.

use crate::cpu::Kernel;
use crate::cpu::simd::{LANES, Simd};
use crate::kv_cache::BLOCK_TOKENS;
use crate::ops::RopeTable;
use crate::shared::SharedMut;

/// Rows of queries per chunk.
pub(crate) const QUERY_ROWS_PER_CHUNK: usize = 8;

/// Chunks `0 .. num_kv_heads` store one key-value head of all rows, in the order of rows, so that it is defined what a slot
/// holds that two rows name; the chunks after them rotate some rows of queries each.
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
    /// Everything in one chunk.
    pub(crate) whole: bool,
}

impl RopeStore<'_> {
    pub(crate) fn num_chunks(&self) -> usize {
        if self.whole { 1 } else { self.num_kv_heads + self.positions.len().div_ceil(QUERY_ROWS_PER_CHUNK) }
    }

    #[inline(always)]
    fn rotate_queries<S: Simd>(&self, s: S, first_row: usize, num_rows: usize) {
        let width = self.num_heads * self.head_dim;
        for row in first_row..first_row + num_rows {
            // SAFETY: a row of queries belongs to one chunk.
            let q = unsafe { self.q.part(row * width, width) };
            for head in q.chunks_mut(self.head_dim) {
                rotate(s, self.rope, self.positions[row], head);
            }
        }
    }

    #[inline(always)]
    fn store_head<S: Simd>(&self, s: S, head: usize) {
        let (dim, width) = (self.head_dim, self.num_kv_heads * self.head_dim);
        let value_vectors = dim.div_ceil(LANES);
        for (row, slot) in self.slots.iter().enumerate() {
            // SAFETY: a head of the keys belongs to one chunk.
            let k = unsafe { self.k.part(row * width + head * dim, dim) };
            rotate(s, self.rope, self.positions[row], k);
            let (block, token) = (*slot as usize / BLOCK_TOKENS, *slot as usize % BLOCK_TOKENS);
            let head_vectors = dim + BLOCK_TOKENS * value_vectors;
            let first = self.first_vector + block * self.block_vectors + head * head_vectors;
            // SAFETY: a head of the cache belongs to one chunk.
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
        let num_rows = self.positions.len();
        if self.whole {
            self.rotate_queries(s, 0, num_rows);
            for head in 0..self.num_kv_heads {
                self.store_head(s, head);
            }
        } else if chunk < self.num_kv_heads {
            self.store_head(s, chunk);
        } else {
            let first = (chunk - self.num_kv_heads) * QUERY_ROWS_PER_CHUNK;
            self.rotate_queries(s, first, QUERY_ROWS_PER_CHUNK.min(num_rows - first));
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
