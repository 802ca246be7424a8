//! Truncation, and the number behind a draw.

use souk_protocol::SamplingParams;

use super::Candidate;
use super::scan::Scan;

/// Which tokens may be drawn, as far as it can be said without their weights.
pub(super) struct Truncation {
    /// `None` keeps all.
    top_k: Option<usize>,
    /// Logit below the largest at which `min_p` cuts; `None` keeps all.
    min_p_gap: Option<f32>,
}

impl Truncation {
    pub(super) fn new(params: &SamplingParams, vocab_size: usize) -> Self {
        let top_k = params.top_k as usize;
        Self {
            top_k: (0 < top_k && top_k < vocab_size).then_some(top_k),
            // p_i / p_max >= min_p, written for logits.
            min_p_gap: (params.min_p > 0.0).then(|| -params.min_p.ln() * params.temperature),
        }
    }

    /// The least likely token that stays; `None` if all do. The row has been scanned.
    pub(super) fn last(&self, scan: &mut Scan, logits: &[f32], candidates: &mut Vec<Candidate>) -> Option<Candidate> {
        let by_min_p = self.min_p_gap.map(|gap| Candidate { id: u32::MAX, value: scan.max() - gap });
        let by_top_k = self.top_k.and_then(|top_k| {
            scan.largest(logits, top_k, candidates);
            candidates.iter().copied().max_by(Candidate::likelier_first)
        });
        by_min_p.into_iter().chain(by_top_k).min_by(Candidate::likelier_first)
    }
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
