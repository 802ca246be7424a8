//! Causal attention over the paged cache: online softmax, block by block in the order of positions.
//!
//! A query is one head of one row. Queries that share a key-value head and a sequence are worked on up to eight at a
//! time, so that a block's keys and values are read and converted once for all. Each query's own operations are the
//! same whoever shares the pass: a block with none of its tokens is skipped, and tokens beyond its position take no
//! part.
//!
//! ```text
//! score = (even inputs) + (odd inputs), each a chain of fma over the head         16 tokens are 16 lanes
//! m' = a score above m + 8 ? the highest : m;  p = exp(score - m');  c = exp(m - m')
//! l = l * c + p, lane by lane;  acc = acc * c, then fma(p[token], value[token], acc) for each token in order
//! out = acc * (1 / sum of l)
//! ```
//!
//! A sequence of more than 512 tokens is worked on in segments of so many, wherever they fall, so that all threads have
//! a part of it; what the segments of a row give is put together in their order.

mod block;
mod segments;

use self::block::{State, add_values, scores, softmax};
use self::segments::SEGMENT_BLOCKS;
pub(crate) use self::segments::{Join, Partials, num_segments};
use crate::cpu::backend::Kernel;
use crate::cpu::isa::simd::{LANES, Simd, Task};
use crate::cpu::kv_cache::{KvCache, MAX_HEAD_DIM};
use crate::cpu::shared::SharedMut;
use crate::runs::AttentionSpan;
use crate::runs::BLOCK_TOKENS;

/// Rows of a span that make a chunk with one key-value head and one segment.
const ROWS_PER_CHUNK: usize = 8;

/// The op's work: a chunk is some rows of a span, a segment of their positions and one key-value head.
pub(crate) struct Attention<'a> {
    pub(crate) q: &'a [f32],
    pub(crate) num_heads: usize,
    pub(crate) cache: &'a KvCache,
    pub(crate) layer: usize,
    pub(crate) spans: &'a [AttentionSpan<'a>],
    pub(crate) out: SharedMut<'a, f32>,
    /// What rows with several segments give.
    pub(crate) partials: Partials<'a>,
}

impl Attention<'_> {
    pub(crate) fn num_chunks(&self) -> usize {
        self.spans.iter().map(|span| self.chunks_of(span)).sum()
    }

    #[inline(always)]
    fn chunks_of(&self, span: &AttentionSpan<'_>) -> usize {
        span.num_rows.div_ceil(ROWS_PER_CHUNK) * segments_of(span) * self.cache.num_kv_heads()
    }
}

/// Segments of a span's longest row.
#[inline(always)]
pub(crate) fn segments_of(span: &AttentionSpan<'_>) -> usize {
    if span.num_rows == 0 { 0 } else { num_segments(span.first_position + span.num_rows) }
}

impl Kernel for Attention<'_> {
    #[inline(always)]
    fn run_chunk<S: Simd>(&self, s: S, mut chunk: usize) {
        for span in self.spans {
            let num_chunks = self.chunks_of(span);
            if chunk < num_chunks {
                let (num_kv_heads, num_segments) = (self.cache.num_kv_heads(), segments_of(span));
                let (kv_head, rest) = (chunk % num_kv_heads, chunk / num_kv_heads);
                let (segment, first) = (rest % num_segments, rest / num_segments * ROWS_PER_CHUNK);
                let num_rows = ROWS_PER_CHUNK.min(span.num_rows - first);
                // Rows ascend: those before the segment have no part in it.
                let before = (segment * SEGMENT_BLOCKS * BLOCK_TOKENS).saturating_sub(span.first_position + first);
                let before = before.min(num_rows);
                let (first_in_span, num_rows) = (first + before, num_rows - before);
                self.run_panel(s, Panel { span, first_in_span, num_rows, segment, kv_head });
                return;
            }
            chunk -= num_chunks;
        }
    }
}

/// Rows of a span, a segment that each of them reaches, and a key-value head.
#[derive(Clone, Copy)]
struct Panel<'a> {
    span: &'a AttentionSpan<'a>,
    first_in_span: usize,
    num_rows: usize,
    segment: usize,
    kv_head: usize,
}

impl Attention<'_> {
    /// Works off the panel's queries in passes, as many at a time as the registers hold.
    #[inline(always)]
    fn run_panel<S: Simd>(&self, s: S, panel: Panel<'_>) {
        let num_queries = panel.num_rows * (self.num_heads / self.cache.num_kv_heads());
        let mut first = 0;
        while first < num_queries {
            let left = (num_queries - first).min(S::PANEL_ROWS);
            first += match left {
                8.. => s.call(Pass::<8> { op: self, panel, first }),
                6..8 => s.call(Pass::<6> { op: self, panel, first }),
                4..6 => s.call(Pass::<4> { op: self, panel, first }),
                3 => s.call(Pass::<3> { op: self, panel, first }),
                2 => s.call(Pass::<2> { op: self, panel, first }),
                _ => s.call(Pass::<1> { op: self, panel, first }),
            };
        }
    }
}

/// `Q` queries of a panel, from query `first` on. Returns `Q`.
struct Pass<'a, const Q: usize> {
    op: &'a Attention<'a>,
    panel: Panel<'a>,
    first: usize,
}

impl<const Q: usize> Task for Pass<'_, Q> {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> usize {
        let cache = self.op.cache;
        let (dim, num_vectors) = (cache.head_dim(), cache.value_vectors());
        let scale = 1.0 / (dim as f32).sqrt();
        let mut queries = [[0.0; MAX_HEAD_DIM]; Q];
        let mut lengths = [0; Q];
        for at in 0..Q {
            let (row, head) = self.place(at);
            lengths[at] = self.panel.span.first_position + row + 1;
            let from = (self.panel.span.first_row + row) * self.op.num_heads + head;
            for (to, from) in queries[at].iter_mut().zip(&self.op.q[from * dim..][..dim]) {
                *to = from * scale;
            }
        }
        let mut state = State::<S, Q>::new(s);
        let first_block = self.panel.segment * SEGMENT_BLOCKS;
        // Rows ascend, so the last query reaches the furthest.
        let end = lengths[Q - 1].div_ceil(BLOCK_TOKENS).min(first_block + SEGMENT_BLOCKS);
        let blocks = &self.panel.span.blocks[first_block..end];
        let kv_head = self.panel.kv_head;
        let keys_of = |block: u32, kv_head: usize| cache.keys(self.op.layer, block as usize, kv_head);
        let values_of = |block: u32, kv_head: usize| cache.values(self.op.layer, block as usize, kv_head);
        // Blocks lie anywhere, so the hardware cannot predict the next. After the last one it is where the next head's
        // chunk begins, which this thread most likely does next.
        let next_head = (kv_head + 1).min(cache.num_kv_heads() - 1);
        let place_of = |at: usize| blocks.get(at).map_or((blocks[0], next_head), |block| (*block, kv_head));
        let keys_at = |at: usize| {
            let (block, kv_head) = place_of(at);
            keys_of(block, kv_head).as_ptr()
        };
        let values_at = |at: usize| {
            let (block, kv_head) = place_of(at);
            values_of(block, kv_head).as_ptr()
        };
        let mut block_scores = scores(s, &queries, keys_of(blocks[0], kv_head), keys_at(1));
        for (at, block) in blocks.iter().enumerate() {
            let mut counts = [0; Q];
            for query in 0..Q {
                counts[query] = lengths[query].saturating_sub((first_block + at) * BLOCK_TOKENS).min(BLOCK_TOKENS);
            }
            let weights = softmax(s, block_scores, &counts, &mut state, num_vectors);
            // These wait for nothing, so they are made while the weights are on their way.
            if let Some(next) = blocks.get(at + 1) {
                block_scores = scores(s, &queries, keys_of(*next, kv_head), keys_at(at + 2));
            }
            let next_values = values_at(at + 1);
            add_values(s, &weights, &counts, values_of(*block, kv_head), next_values, &mut state, num_vectors);
        }
        for at in 0..Q {
            self.store(s, at, lengths[at], &state);
        }
        Q
    }
}

impl<const Q: usize> Pass<'_, Q> {
    /// Writes a query's result, or that of its segment if it has several.
    #[inline(always)]
    fn store<S: Simd>(&self, s: S, at: usize, length: usize, state: &State<S, Q>) {
        let (op, dim) = (self.op, self.op.cache.head_dim());
        let (row, head) = self.place(at);
        let row = self.panel.span.first_row + row;
        let sum = s.sum(state.sum[at]);
        if num_segments(length) > 1 {
            // SAFETY: a segment of a head of a row is one query, and a query belongs to one chunk.
            let partial = unsafe { op.partials.of(row, head, self.panel.segment) };
            (partial[0], partial[1]) = (state.max[at], sum);
            for (acc, out) in state.acc[at].iter().zip(partial[2..].chunks_mut(LANES)) {
                s.store_part(*acc, out);
            }
            return;
        }
        // SAFETY: as above; the only segment of its row.
        let out = unsafe { op.out.part((row * op.num_heads + head) * dim, dim) };
        let inverse = s.splat(1.0 / sum);
        for (acc, out) in state.acc[at].iter().zip(out.chunks_mut(LANES)) {
            s.store_part(s.mul(*acc, inverse), out);
        }
    }

    /// Row within the span, and head, of a query.
    #[inline(always)]
    fn place(&self, at: usize) -> (usize, usize) {
        let heads_per_kv_head = self.op.num_heads / self.op.cache.num_kv_heads();
        let query = self.first + at;
        let row = self.panel.first_in_span + query / heads_per_kv_head;
        (row, self.panel.kv_head * heads_per_kv_head + query % heads_per_kv_head)
    }
}
