//! One block of 16 tokens for some queries.

use crate::cpu::isa::simd::{LANES, Simd};
use crate::cpu::kv_cache::MAX_HEAD_DIM;
use crate::cpu::lanes::math::exp;
use crate::cpu::tiles::HalfLanes;
use crate::runs::BLOCK_TOKENS;

/// How far a score may lie above the maximum that weights are relative to before that is raised: weights stay below
/// e^8, and most sequences never raise it after their first block.
const HEADROOM: f32 = 8.0;

/// Vectors of the widest head.
pub(super) const MAX_VECTORS: usize = MAX_HEAD_DIM / LANES;

/// What a pass keeps of its queries between blocks.
pub(super) struct State<S: Simd, const Q: usize> {
    /// What weights are relative to: a score that no other exceeds by more than [`HEADROOM`].
    pub(super) max: [f32; Q],
    /// In lanes, to be added up at the end.
    pub(super) sum: [S::F; Q],
    pub(super) acc: [[S::F; MAX_VECTORS]; Q],
}

impl<S: Simd, const Q: usize> State<S, Q> {
    #[inline(always)]
    pub(super) fn new(s: S) -> Self {
        State { max: [f32::NEG_INFINITY; Q], sum: [s.splat(0.0); Q], acc: [[s.splat(0.0); MAX_VECTORS]; Q] }
    }

    /// Makes what is held relative to another maximum; not to a NaN, which shows in the weights.
    #[inline(always)]
    fn raise(&mut self, s: S, query: usize, highest: f32, num_vectors: usize) {
        if highest > self.max[query] {
            let rescale = exp(s, s.splat(self.max[query] - highest));
            self.max[query] = highest;
            self.sum[query] = s.mul(self.sum[query], rescale);
            for acc in &mut self.acc[query][..num_vectors] {
                *acc = s.mul(*acc, rescale);
            }
        }
    }
}

/// Scores of the block's 16 tokens for each query. Meanwhile as much is asked for from `next` on, little by little: the
/// first-level cache takes a limited number of requests at once.
#[inline(always)]
pub(super) fn scores<S: Simd, const Q: usize>(
    s: S,
    queries: &[[f32; MAX_HEAD_DIM]; Q],
    keys: &[HalfLanes],
    next: *const HalfLanes,
) -> [S::F; Q] {
    let mut even = [s.splat(0.0); Q];
    let mut odd = [s.splat(0.0); Q];
    let (pairs, rest) = keys.as_chunks::<2>();
    for (at, [first, second]) in pairs.iter().take(MAX_HEAD_DIM / 2).enumerate() {
        s.prefetch(next.wrapping_add(2 * at).cast());
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

/// Turns scores into weights relative to the state's maximum, which is raised first where a score is too far above it.
/// The sums of weights stay in lanes.
#[inline(always)]
pub(super) fn softmax<S: Simd, const Q: usize>(
    s: S,
    scores: [S::F; Q],
    counts: &[usize; Q],
    state: &mut State<S, Q>,
    num_vectors: usize,
) -> [[f32; LANES]; Q] {
    let mut weights = [[0.0; LANES]; Q];
    // Rows ascend, so the first query has the fewest tokens.
    let is_whole = counts[0] == BLOCK_TOKENS;
    for query in 0..Q {
        let count = counts[query];
        if count == 0 {
            continue;
        }
        let mut scores = scores[query];
        if !is_whole {
            scores = s.keep_first(scores, count, f32::NEG_INFINITY);
        }
        if s.any_above(scores, state.max[query] + HEADROOM) {
            state.raise(s, query, s.max_lane(scores), num_vectors);
        }
        let mut weight = exp(s, s.sub(scores, s.splat(state.max[query])));
        if !is_whole {
            weight = s.keep_first(weight, count, 0.0);
        }
        state.sum[query] = s.add(state.sum[query], weight);
        s.store(weight, &mut weights[query]);
    }
    weights
}

/// Adds the block's values by their weights. As much is asked for from `next` on.
#[inline(always)]
pub(super) fn add_values<S: Simd, const Q: usize>(
    s: S,
    weights: &[[f32; LANES]; Q],
    counts: &[usize; Q],
    values: &[HalfLanes],
    next: *const HalfLanes,
    state: &mut State<S, Q>,
    num_vectors: usize,
) {
    // The first query has the fewest tokens, which all see. Values of tokens that a query does not see may be NaN: they
    // must not be multiplied by zero but left out.
    let shared = &values[..counts[0] * num_vectors];
    let mut vector = 0;
    while vector + 2 <= num_vectors {
        add_columns::<S, Q, 2>(s, weights, shared, next, &mut state.acc, vector, num_vectors);
        vector += 2;
    }
    if vector < num_vectors {
        add_columns::<S, Q, 1>(s, weights, shared, next, &mut state.acc, vector, num_vectors);
    }
    for query in 1..Q {
        for token in counts[0]..counts[query] {
            let weight = s.splat(weights[query][token]);
            for (value, acc) in values[token * num_vectors..][..num_vectors].iter().zip(&mut state.acc[query]) {
                *acc = s.fma(weight, s.load_f16(value), *acc);
            }
        }
    }
}

/// `C` vectors of some tokens' values for all queries.
#[inline(always)]
fn add_columns<S: Simd, const Q: usize, const C: usize>(
    s: S,
    weights: &[[f32; LANES]; Q],
    values: &[HalfLanes],
    next: *const HalfLanes,
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
        s.prefetch(next.wrapping_add(token * num_vectors + first).cast());
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
