//! Temperature, truncation and the draw itself.

use souk_protocol::{SamplingParams, TokenId};

use super::Candidate;
use super::scan::{Scan, exp};

/// Which tokens may be drawn.
pub(super) struct Truncation {
    pub(super) inverse_temperature: f32,
    /// `usize::MAX` keeps all.
    top_k: usize,
    /// Logit below the largest at which `min_p` cuts; infinite if it does not.
    min_p_gap: f32,
    top_p: f64,
    vocab_size: usize,
}

impl Truncation {
    pub(super) fn new(params: &SamplingParams, vocab_size: usize) -> Self {
        let top_k = if params.top_k == 0 { usize::MAX } else { params.top_k as usize };
        // p_i / p_max >= min_p, written for logits.
        let min_p_gap = if params.min_p > 0.0 { -params.min_p.ln() * params.temperature } else { f32::INFINITY };
        Self {
            inverse_temperature: 1.0 / params.temperature,
            top_k: if top_k >= vocab_size { usize::MAX } else { top_k },
            min_p_gap,
            top_p: f64::from(params.top_p),
            vocab_size,
        }
    }

    pub(super) fn keeps_all(&self) -> bool {
        self.top_k == usize::MAX && self.min_p_gap.is_infinite() && self.top_p >= 1.0
    }

    /// Collects the tokens that may be drawn, likeliest first, with their weights.
    pub(super) fn collect(&self, scan: &mut Scan, logits: &[f32], out: &mut Vec<Candidate>) {
        let total = self.collect_unsorted(scan, logits, out);
        self.cut_to_nucleus(scan, total, out);
        for candidate in out {
            candidate.value = self.weight(scan, candidate.value) as f32;
        }
    }

    /// Keeps the likeliest candidates that together reach `top_p`, and sorts them. Sorts no more than needed: a usual
    /// nucleus has a few dozen tokens, and each round sorts three times as many as all rounds before.
    fn cut_to_nucleus(&self, scan: &Scan, total: f64, out: &mut Vec<Candidate>) {
        let (mut mass, mut num_sorted) = (0.0, 0);
        while num_sorted < out.len() {
            let rest = &mut out[num_sorted..];
            let num_next = (3 * num_sorted).max(128).min(rest.len());
            if num_next < rest.len() {
                rest.select_nth_unstable_by(num_next, Candidate::likelier_first);
            }
            rest[..num_next].sort_unstable_by(Candidate::likelier_first);
            let reached = rest[..num_next].iter().position(|candidate| {
                mass += self.weight(scan, candidate.value);
                mass >= self.top_p * total
            });
            if let Some(last) = reached {
                return out.truncate(num_sorted + last + 1);
            }
            num_sorted += num_next;
        }
    }

    /// Applies top-k and min-p. Returns the sum of weights that top-p is a share of.
    fn collect_unsorted(&self, scan: &mut Scan, logits: &[f32], out: &mut Vec<Candidate>) -> f64 {
        let bound = scan.max() - self.min_p_gap;
        if self.top_k == usize::MAX && bound == f32::NEG_INFINITY {
            let total = scan.sum_weights(logits, self.inverse_temperature);
            scan.at_least(logits, self.bound_of_nucleus(scan, total), out);
            return total;
        }
        if self.top_k == usize::MAX {
            scan.at_least(logits, bound, out);
        } else {
            scan.largest(logits, self.top_k, out);
            out.retain(|candidate| candidate.value >= bound);
        }
        out.iter().map(|candidate| self.weight(scan, candidate.value)).sum()
    }

    /// A logit below which no token can belong to the nucleus. If each token left out has at most the share
    /// `(1 - top_p) / vocab_size`, all together have less than `1 - top_p`, and the likelier ones reach `top_p` without
    /// them. This leaves a few hundred tokens to sort in place of all.
    fn bound_of_nucleus(&self, scan: &Scan, total: f64) -> f32 {
        // Half of the share, so that rounding in the sums cannot matter.
        let least_weight = 0.5 * (1.0 - self.top_p) / self.vocab_size as f64 * total;
        let gap = -(least_weight.max(f64::MIN_POSITIVE).ln()) / f64::from(self.inverse_temperature);
        scan.max() - gap as f32
    }

    fn weight(&self, scan: &Scan, logit: f32) -> f64 {
        f64::from(exp((logit - scan.max()) * self.inverse_temperature))
    }
}

/// Draws one of the candidates, whose values are weights.
pub(super) fn from_candidates(candidates: &[Candidate], uniform: f64) -> TokenId {
    let total: f64 = candidates.iter().map(|candidate| f64::from(candidate.value)).sum();
    let mut target = uniform * total;
    let drawn = candidates.iter().find(|candidate| {
        target -= f64::from(candidate.value);
        target < 0.0
    });
    // Only rounding can leave the target at zero; then the likeliest is as good as any. There is always one: the token
    // with the largest logit passes every truncation.
    drawn.or(candidates.first()).map_or(0, |candidate| candidate.id)
}

/// A number in [0, 1) that depends on seed and position alone. Two rounds of SplitMix64 (Steele et al. 2014), which passes
/// BigCrush on counters.
pub(super) fn uniform(seed: u64, position: u32) -> f64 {
    const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
    let mix = |mut bits: u64| {
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    };
    let stream = mix(seed.wrapping_add(GAMMA));
    let bits = mix(stream.wrapping_add(GAMMA.wrapping_mul(u64::from(position) + 1)));
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}
