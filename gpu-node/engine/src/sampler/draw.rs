//! Truncation, and the number behind a draw.

use super::candidate::Candidate;
use super::rule::Rule;
use super::scan::Scan;

/// Which tokens may be drawn, as far as it can be said without their likelihoods.
pub(super) struct Truncation {
    /// `None` keeps all.
    top_k: Option<usize>,
    /// How far below the largest logit `min_p` cuts; `None` keeps all.
    min_p_gap: Option<f64>,
}

impl Truncation {
    pub(super) fn new(rule: &Rule, vocab_size: usize) -> Self {
        Self {
            top_k: rule.top_k.filter(|top_k| *top_k < vocab_size),
            // p_i / p_max >= min_p, written for logits.
            min_p_gap: rule.min_p.map(|min_p| -f64::from(min_p).ln() * f64::from(rule.temperature)),
        }
    }

    /// The least likely token that stays; `None` if all do. The row has been scanned.
    pub(super) fn last(&self, scan: &mut Scan, logits: &[f32], candidates: &mut Vec<Candidate>) -> Option<Candidate> {
        let max = f64::from(scan.max());
        let by_min_p = self.min_p_gap.map(|gap| Candidate { id: u32::MAX, value: rounded_up(max - gap) });
        let by_top_k = self.top_k.and_then(|top_k| {
            scan.largest(logits, top_k, candidates);
            candidates.iter().copied().max_by(Candidate::likelier_first)
        });
        by_min_p.into_iter().chain(by_top_k).min_by(Candidate::likelier_first)
    }
}

/// The least `f32` that is not below `x`, so that comparing with it is comparing with `x`.
const fn rounded_up(x: f64) -> f32 {
    let near = x as f32;
    if (near as f64) < x { near.next_up() } else { near }
}

/// A number in [0, 1) that depends on seed and position alone. Two rounds of SplitMix64 (Steele et al. 2014), which
/// passes BigCrush on counters.
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
