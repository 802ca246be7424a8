//! The likelihoods with which tokens of a row are drawn: unnormalised, the likeliest has 1.
//!
//! Whatever cuts a distribution (top-k, min-p, top-p) keeps the tokens up to some place in the order of likelihood, so
//! a cut is one [`Candidate`]: the last that stays. Nothing is sorted but the few tokens about that place, and a draw
//! goes through the tokens in order of id.

use souk_kernels::cpu::{Isa, ops};
use souk_protocol::TokenId;

use super::candidate::Candidate;
use super::scan::{BLOCK, LANES, Scan, token_id};

/// Steps of likelihood into which a nucleus is sorted coarsely, before the tokens of a single step are looked at.
const NUM_STEPS: usize = 1024;
/// Running sums per step, taken in turn, so that neighbours in one step do not wait for each other.
const NUM_SUMS: usize = 2;

/// Likelihoods of one row, zero for tokens that may not be drawn.
#[derive(Debug)]
pub(super) struct Likelihoods {
    isa: Isa,
    likelihoods: Vec<f32>,
    /// Sums of the likelihoods of blocks. Where it is zero the block's likelihoods are stale.
    sums: Vec<f32>,
    mass: Vec<[f64; NUM_SUMS]>,
    edge: Vec<Candidate>,
}

impl Likelihoods {
    /// Computes the likelihood of each token, `exp((logit - max) / temperature)`, down to `last` if there is a cut. The
    /// row has been scanned.
    pub(super) fn compute(&mut self, scan: &Scan, logits: &[f32], inverse_temperature: f32, last: Option<Candidate>) {
        self.likelihoods.resize(logits.len(), 0.0);
        self.sums.clear();
        for (index, (block, max)) in logits.chunks(BLOCK).zip(scan.block_max()).enumerate() {
            let likelihoods = &mut self.likelihoods[index * BLOCK..][..block.len()];
            let sum = match last {
                Some(last) if *max < last.value => 0.0,
                _ => ops::exp_scaled(self.isa, block, scan.max(), inverse_temperature, likelihoods)
                    .expect("the slices are of one length and the instruction set is this machine's"),
            };
            self.sums.push(sum);
        }
        if let Some(last) = last {
            self.cut(logits, last);
        }
    }

    pub(super) fn total(&self) -> f64 {
        self.sums.iter().copied().map(f64::from).sum()
    }

    /// Keeps the likeliest tokens that together reach the share `top_p` of the total.
    pub(super) fn cut_to_nucleus(&mut self, scan: &Scan, logits: &[f32], inverse_temperature: f32, top_p: f64) {
        let total = self.total();
        let stairs = Stairs::new(scan.max(), inverse_temperature, (1.0 - top_p) * total / logits.len() as f64);
        self.add_mass(&stairs, logits);
        let mut mass = 0.0;
        let crossed = self.mass.iter().position(|sums| {
            let sum: f64 = sums.iter().sum();
            let is_crossed = mass + sum >= top_p * total;
            mass += if is_crossed { 0.0 } else { sum };
            is_crossed
        });
        // Rounding alone can leave the share unreached; then nothing is cut.
        let Some(step) = crossed else { return };
        self.collect_edge(&stairs, logits, step);
        self.edge.sort_unstable_by(Candidate::likelier_first);
        let last = self.edge.iter().find(|candidate| {
            mass += f64::from(self.likelihoods[candidate.id as usize]);
            mass >= top_p * total
        });
        if let Some(last) = last.or(self.edge.last()).copied() {
            self.cut(logits, last);
        }
    }

    /// Draws a token: the one at which the running sum of likelihoods passes `uniform` of the total.
    pub(super) fn draw(&self, uniform: f64) -> TokenId {
        let mut target = uniform * self.total();
        let mut drawn = 0;
        for (index, sum) in self.sums.iter().enumerate().filter(|(_, sum)| **sum > 0.0) {
            drawn = index;
            if target < f64::from(*sum) {
                break;
            }
            target -= f64::from(*sum);
        }
        let first = drawn * BLOCK;
        let block = &self.likelihoods[first..self.likelihoods.len().min(first + BLOCK)];
        let passed = block.iter().position(|likelihood| {
            target -= f64::from(*likelihood);
            target < 0.0
        });
        // Rounding can leave the target unpassed at the block's end; then its likeliest is as good as any.
        let likeliest = || (0..block.len()).max_by(|a, b| block[*a].total_cmp(&block[*b])).unwrap_or(0);
        token_id(first + passed.unwrap_or_else(likeliest))
    }

    /// Takes away the likelihoods of all that come after `last` in the order of likelihood.
    fn cut(&mut self, logits: &[f32], last: Candidate) {
        let blocks = self.likelihoods.chunks_mut(BLOCK).zip(logits.chunks(BLOCK)).zip(&mut self.sums);
        for (index, ((likelihoods, logits), sum)) in blocks.enumerate().filter(|(_, (_, sum))| **sum > 0.0) {
            let mut sums = [0.0_f32; LANES];
            for (place, (likelihood, logit)) in likelihoods.iter_mut().zip(logits).enumerate() {
                let stays = *logit > last.value || (*logit == last.value && token_id(index * BLOCK + place) <= last.id);
                *likelihood = if stays { *likelihood } else { 0.0 };
                sums[place % LANES] += *likelihood;
            }
            *sum = sums.iter().sum();
        }
    }

    /// Sums up the likelihoods on each step.
    fn add_mass(&mut self, stairs: &Stairs, logits: &[f32]) {
        self.mass.clear();
        self.mass.resize(NUM_STEPS, [0.0; NUM_SUMS]);
        let blocks = self.likelihoods.chunks(BLOCK).zip(logits.chunks(BLOCK)).zip(&self.sums);
        for ((likelihoods, logits), _) in blocks.filter(|(_, sum)| **sum > 0.0) {
            let steps = stairs.steps(logits);
            for (place, (likelihood, step)) in likelihoods.iter().zip(steps).enumerate() {
                self.mass[usize::from(step)][place % NUM_SUMS] += f64::from(*likelihood);
            }
        }
    }

    /// Collects the tokens on one step.
    fn collect_edge(&mut self, stairs: &Stairs, logits: &[f32], wanted: usize) {
        self.edge.clear();
        let blocks = self.likelihoods.chunks(BLOCK).zip(logits.chunks(BLOCK)).zip(&self.sums);
        for (index, ((likelihoods, logits), _)) in blocks.enumerate().filter(|(_, (_, sum))| **sum > 0.0) {
            let steps = stairs.steps(logits);
            let on_step =
                (0..logits.len()).filter(|place| usize::from(steps[*place]) == wanted && likelihoods[*place] > 0.0);
            self.edge
                .extend(on_step.map(|place| Candidate { id: token_id(index * BLOCK + place), value: logits[place] }));
        }
    }
}

impl Default for Likelihoods {
    fn default() -> Self {
        Self { isa: Isa::best(), likelihoods: Vec::new(), sums: Vec::new(), mass: Vec::new(), edge: Vec::new() }
    }
}

/// Sorts logits coarsely into steps, the likeliest on step 0.
struct Stairs {
    max: f32,
    steps_per_unit: f32,
}

impl Stairs {
    /// Stairs that reach down to half of `least_likelihood`; what is less likely is on the last step. No nucleus
    /// reaches there if `least_likelihood` is an equal share of what a nucleus leaves out: all tokens below have less
    /// than that together.
    fn new(max: f32, inverse_temperature: f32, least_likelihood: f64) -> Self {
        let depth = -(0.5 * least_likelihood).max(f64::MIN_POSITIVE).ln() / f64::from(inverse_temperature);
        Self { max, steps_per_unit: NUM_STEPS as f32 / depth as f32 }
    }

    /// The steps of a block's logits. Plain arithmetic, so that the loop becomes vectors.
    fn steps(&self, logits: &[f32]) -> [u16; BLOCK] {
        // Adding 2^23 rounds to an integer and leaves it in the low bits.
        const ROUND: f32 = 8_388_608.0;
        const LAST: f32 = (NUM_STEPS - 1) as f32;
        let mut steps = [0; BLOCK];
        for (step, logit) in steps.iter_mut().zip(logits) {
            let depth = (self.max - logit) * self.steps_per_unit;
            let depth = if depth < LAST { depth } else { LAST };
            *step = ((depth + ROUND).to_bits() as usize % NUM_STEPS) as u16;
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use souk_protocol::SamplingParams;

    use super::super::draw::{Truncation, uniform};
    use super::super::rule::Rule;
    use super::*;

    /// Rows that are flat, peaked or full of ties, some of them no multiple of a block long.
    fn row(seed: u64, size: f32, grain: f32, len: usize) -> Vec<f32> {
        let number = |id: usize| (uniform(seed, id as u32) as f32 - 0.5) * size;
        (0..len).map(number).map(|logit| if grain > 0.0 { (logit / grain).round() * grain } else { logit }).collect()
    }

    fn truncated(logits: &[f32], params: &SamplingParams) -> Likelihoods {
        let (mut scan, mut likelihoods, rule) = (Scan::default(), Likelihoods::default(), Rule::new(params));
        scan.read(logits).unwrap();
        let last = Truncation::new(&rule, logits.len()).last(&mut scan, logits, &mut Vec::new());
        likelihoods.compute(&scan, logits, rule.inverse_temperature(), last);
        if let Some(top_p) = rule.top_p {
            likelihoods.cut_to_nucleus(&scan, logits, rule.inverse_temperature(), f64::from(top_p));
        }
        likelihoods
    }

    fn kept(likelihoods: &Likelihoods) -> Vec<TokenId> {
        let of_block = |index: usize| {
            let block = &likelihoods.likelihoods[index * BLOCK..likelihoods.likelihoods.len().min((index + 1) * BLOCK)];
            (0..block.len()).filter(|place| block[*place] > 0.0).map(move |place| token_id(index * BLOCK + place))
        };
        (0..likelihoods.sums.len()).filter(|index| likelihoods.sums[*index] > 0.0).flat_map(of_block).collect()
    }

    /// How many tokens stay, the plain way, of tokens sorted by likelihood.
    fn num_kept(sorted: &[TokenId], logits: &[f32], params: &SamplingParams, top_p: f64, min_p: f64) -> usize {
        let (max, temperature) = (f64::from(logits[sorted[0] as usize]), f64::from(params.temperature));
        let likelihood = |id: &TokenId| ((f64::from(logits[*id as usize]) - max) / temperature).exp();
        let top_k = if params.top_k == 0 { sorted.len() } else { sorted.len().min(params.top_k as usize) };
        let sorted = &sorted[..top_k];
        let sorted = &sorted[..sorted.iter().position(|id| likelihood(id) < min_p).unwrap_or(sorted.len())];
        let (total, mut mass): (f64, f64) = (sorted.iter().map(likelihood).sum(), 0.0);
        let reached = sorted.iter().position(|id| {
            mass += likelihood(id);
            mass >= top_p * total
        });
        if top_p < 1.0 { reached.map_or(sorted.len(), |last| last + 1) } else { sorted.len() }
    }

    proptest! {
        #[test]
        fn what_stays_is_what_sorting_all_would_keep(
            seed in any::<u64>(),
            size in prop_oneof![Just(0.0_f32), 0.001_f32..1.0, 1.0_f32..60.0],
            grain in prop_oneof![Just(0.0_f32), 0.01_f32..2.0],
            len in 1..3000_usize,
            temperature in 0.05_f32..3.0,
            top_k in prop_oneof![Just(0_u32), 1..60_u32, 1..3000_u32],
            min_p in prop_oneof![Just(0.0_f32), 0.0_f32..0.9],
            top_p in prop_oneof![Just(1.0_f32), 0.01_f32..0.9999],
        ) {
            let logits = row(seed, size, grain, len);
            let params = SamplingParams { temperature, top_k, min_p, top_p, ..SamplingParams::greedy() };
            let mut sorted: Vec<TokenId> = (0..len as u32).collect();
            sorted.sort_by(|a, b| logits[*b as usize].partial_cmp(&logits[*a as usize]).unwrap().then(a.cmp(b)));
            let kept = kept(&truncated(&logits, &params));
            let (top_p, min_p) = (f64::from(top_p), f64::from(min_p));
            let expected = |slack: f64| num_kept(&sorted, &logits, &params, top_p + slack * top_p, min_p * (1.0 - slack));
            // Sums in f32 and in f64 may disagree about the last tokens.
            let (least, most) = (expected(-2e-5), expected(2e-5));
            prop_assert!((least..=most).contains(&kept.len()), "{} of {least}..={most}", kept.len());
            let mut likeliest = sorted[..kept.len()].to_vec();
            likeliest.sort_unstable();
            prop_assert_eq!(kept, likeliest);
        }

        #[test]
        fn a_draw_takes_the_token_at_which_the_running_sum_passes(
            seed in any::<u64>(), size in 0.1_f32..20.0, len in 1..2000_usize, top_p in 0.1_f32..1.0, uniform in 0.0..1.0_f64,
        ) {
            let logits = row(seed, size, 0.0, len);
            let params = SamplingParams { temperature: 1.0, top_p, ..SamplingParams::greedy() };
            let likelihoods = truncated(&logits, &params);
            let kept = kept(&likelihoods);
            let likelihood = |id: &TokenId| f64::from(likelihoods.likelihoods[*id as usize]);
            let total: f64 = kept.iter().map(likelihood).sum();
            let drawn = likelihoods.draw(uniform);
            let below: f64 = kept.iter().filter(|id| **id < drawn).map(likelihood).sum();
            prop_assert!(kept.contains(&drawn));
            let target = uniform * total;
            let slack = 1e-5 * total;
            prop_assert!(below <= target + slack && target <= below + likelihood(&drawn) + slack);
        }
    }
}
