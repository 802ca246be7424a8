//! Causal attention over the paged cache: online softmax, block by block in the order of positions.
//!
//! A query is one head of one row. Queries that share a key-value head and a sequence are worked on up to eight at a time, so
//! that a block's keys and values are read and converted once for all. Each query's own operations are the same whoever
//! shares the pass: a block with none of its tokens is skipped, and tokens beyond its position take no part.
//!
//! ```text
//! score = (even inputs) + (odd inputs), each a chain of fma over the head         16 tokens are 16 lanes
//! m' = max(m, score);  p = exp(score - m');  c = exp(m - m')
//! l = l * c + sum(p);  acc = acc * c, then fma(p[token], value[token], acc) for each token in order
//! out = acc * (1 / l)
//! ```

use super::math::exp;
use crate::cpu::Kernel;
use crate::cpu::simd::{LANES, Simd, Task};
use crate::kv_cache::{BLOCK_TOKENS, KvCache, MAX_HEAD_DIM};
use crate::ops::AttentionSpan;
use crate::shared::SharedMut;

/// Rows of a span that make a chunk with one key-value head.
const ROWS_PER_CHUNK: usize = 8;
/// Vectors of the widest head.
const MAX_VECTORS: usize = MAX_HEAD_DIM / LANES;

/// The op's work: a chunk is some rows of a span and one key-value head.
pub(crate) struct Attention<'a> {
    pub(crate) q: &'a [f32],
    pub(crate) num_heads: usize,
    pub(crate) cache: &'a KvCache,
    pub(crate) layer: usize,
    pub(crate) spans: &'a [AttentionSpan<'a>],
    pub(crate) out: SharedMut<'a, f32>,
}

impl Attention<'_> {
    pub(crate) fn num_chunks(&self) -> usize {
        let panels: usize = self.spans.iter().map(|span| span.num_rows.div_ceil(ROWS_PER_CHUNK)).sum();
        panels * self.cache.num_kv_heads()
    }
}

impl Kernel for Attention<'_> {
    #[inline(always)]
    fn run_chunk<S: Simd>(&self, s: S, chunk: usize) {
        let kv_head = chunk % self.cache.num_kv_heads();
        let mut panel = chunk / self.cache.num_kv_heads();
        for span in self.spans {
            let num_panels = span.num_rows.div_ceil(ROWS_PER_CHUNK);
            if panel < num_panels {
                let first = panel * ROWS_PER_CHUNK;
                let num_rows = ROWS_PER_CHUNK.min(span.num_rows - first);
                self.run_panel(s, Panel { span, first_in_span: first, num_rows, kv_head });
                return;
            }
            panel -= num_panels;
        }
    }
}

/// Rows of a span and a key-value head.
#[derive(Clone, Copy)]
struct Panel<'a> {
    span: &'a AttentionSpan<'a>,
    first_in_span: usize,
    num_rows: usize,
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

/// What a pass keeps of its queries between blocks.
struct State<S: Simd, const Q: usize> {
    max: [f32; Q],
    sum: [f32; Q],
    acc: [[S::F; MAX_VECTORS]; Q],
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
        let mut state =
            State::<S, Q> { max: [f32::NEG_INFINITY; Q], sum: [0.0; Q], acc: [[s.splat(0.0); MAX_VECTORS]; Q] };
        // Rows ascend, so the last query reaches the furthest.
        for at in 0..lengths[Q - 1].div_ceil(BLOCK_TOKENS) {
            let block = self.panel.span.blocks[at] as usize;
            let keys = cache.keys(self.op.layer, block, self.panel.kv_head);
            let values = cache.values(self.op.layer, block, self.panel.kv_head);
            let mut counts = [0; Q];
            for query in 0..Q {
                counts[query] = lengths[query].saturating_sub(at * BLOCK_TOKENS).min(BLOCK_TOKENS);
            }
            if let Some(next) = self.panel.span.blocks.get(at + 1) {
                prefetch(s, cache.keys(self.op.layer, *next as usize, self.panel.kv_head));
                prefetch(s, cache.values(self.op.layer, *next as usize, self.panel.kv_head));
            }
            let scores = scores(s, &queries, keys);
            let weights = softmax(s, scores, &counts, &mut state, num_vectors);
            add_values(s, &weights, &counts, values, &mut state, num_vectors);
        }
        for at in 0..Q {
            let (row, head) = self.place(at);
            let to = (self.panel.span.first_row + row) * self.op.num_heads + head;
            // SAFETY: a head of a row is one query, and a query belongs to one chunk.
            let out = unsafe { self.op.out.part(to * dim, dim) };
            let inverse = s.splat(1.0 / state.sum[at]);
            for (acc, out) in state.acc[at].iter().zip(out.chunks_mut(LANES)) {
                s.store_part(s.mul(*acc, inverse), out);
            }
        }
        Q
    }
}

impl<const Q: usize> Pass<'_, Q> {
    /// Row within the span, and head, of a query.
    #[inline(always)]
    fn place(&self, at: usize) -> (usize, usize) {
        let heads_per_kv_head = self.op.num_heads / self.op.cache.num_kv_heads();
        let query = self.first + at;
        let row = self.panel.first_in_span + query / heads_per_kv_head;
        (row, self.panel.kv_head * heads_per_kv_head + query % heads_per_kv_head)
    }
}

/// Asks for a block ahead of its use: blocks lie anywhere, so the hardware cannot guess the next.
#[inline(always)]
fn prefetch<S: Simd>(s: S, vectors: &[[u16; LANES]]) {
    for line in vectors.chunks(2) {
        s.prefetch(line.as_ptr().cast());
    }
}

/// Scores of the block's 16 tokens for each query.
#[inline(always)]
fn scores<S: Simd, const Q: usize>(s: S, queries: &[[f32; MAX_HEAD_DIM]; Q], keys: &[[u16; LANES]]) -> [S::F; Q] {
    let mut even = [s.splat(0.0); Q];
    let mut odd = [s.splat(0.0); Q];
    let (pairs, rest) = keys.as_chunks::<2>();
    for (at, [first, second]) in pairs.iter().take(MAX_HEAD_DIM / 2).enumerate() {
        let (first, second) = (s.load_f16(first), s.load_f16(second));
        for query in 0..Q {
            even[query] = s.fma(s.splat(queries[query][2 * at]), first, even[query]);
            odd[query] = s.fma(s.splat(queries[query][2 * at + 1]), second, odd[query]);
        }
    }
    if let [last] = rest {
        let last = s.load_f16(last);
        for query in 0..Q {
            even[query] = s.fma(s.splat(queries[query][2 * pairs.len()]), last, even[query]);
        }
    }
    for query in 0..Q {
        even[query] = s.add(even[query], odd[query]);
    }
    even
}

/// Turns scores into weights relative to the new maximum, and rescales what the state holds.
#[inline(always)]
fn softmax<S: Simd, const Q: usize>(
    s: S,
    scores: [S::F; Q],
    counts: &[usize; Q],
    state: &mut State<S, Q>,
    num_vectors: usize,
) -> [[f32; LANES]; Q] {
    let mut weights = [[0.0; LANES]; Q];
    for query in 0..Q {
        let count = counts[query];
        if count == 0 {
            continue;
        }
        let scores = s.keep_first(scores[query], count, f32::NEG_INFINITY);
        let highest = s.max_lane(scores);
        if highest > state.max[query] {
            let rescale = exp(s, s.splat(state.max[query] - highest));
            state.max[query] = highest;
            state.sum[query] *= s.max_lane(rescale);
            for acc in &mut state.acc[query][..num_vectors] {
                *acc = s.mul(*acc, rescale);
            }
        }
        let weight = exp(s, s.sub(scores, s.splat(state.max[query])));
        let weight = s.keep_first(weight, count, 0.0);
        state.sum[query] += s.sum(weight);
        s.store(weight, &mut weights[query]);
    }
    weights
}

/// Adds the block's values by their weights.
#[inline(always)]
fn add_values<S: Simd, const Q: usize>(
    s: S,
    weights: &[[f32; LANES]; Q],
    counts: &[usize; Q],
    values: &[[u16; LANES]],
    state: &mut State<S, Q>,
    num_vectors: usize,
) {
    // Rows ascend, so the first query has the fewest tokens. Values of tokens that a query does not see may be NaN: they
    // must not be multiplied by zero but left out.
    if counts[0] == BLOCK_TOKENS {
        let mut vector = 0;
        while vector + 2 <= num_vectors {
            add_columns::<S, Q, 2>(s, weights, values, &mut state.acc, vector, num_vectors);
            vector += 2;
        }
        if vector < num_vectors {
            add_columns::<S, Q, 1>(s, weights, values, &mut state.acc, vector, num_vectors);
        }
        return;
    }
    for query in 0..Q {
        for (token, values) in values.chunks(num_vectors).take(counts[query]).enumerate() {
            let weight = s.splat(weights[query][token]);
            for (value, acc) in values.iter().zip(&mut state.acc[query]) {
                *acc = s.fma(weight, s.load_f16(value), *acc);
            }
        }
    }
}

/// `C` vectors of a whole block's values for all queries.
#[inline(always)]
fn add_columns<S: Simd, const Q: usize, const C: usize>(
    s: S,
    weights: &[[f32; LANES]; Q],
    values: &[[u16; LANES]],
    acc: &mut [[S::F; MAX_VECTORS]; Q],
    first: usize,
    num_vectors: usize,
) {
    let mut sums = [[s.splat(0.0); C]; Q];
    for query in 0..Q {
        for column in 0..C {
            sums[query][column] = acc[query][first + column];
        }
    }
    for (token, values) in values.chunks_exact(num_vectors).take(BLOCK_TOKENS).enumerate() {
        for column in 0..C {
            let value = s.load_f16(&values[first + column]);
            for query in 0..Q {
                sums[query][column] = s.fma(s.splat(weights[query][token]), value, sums[query][column]);
            }
        }
    }
    for query in 0..Q {
        for column in 0..C {
            acc[query][first + column] = sums[query][column];
        }
    }
}
