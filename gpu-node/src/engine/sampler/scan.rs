//! Passes over a row of logits.

use souk_protocol::TokenId;

use super::{Candidate, NotFinite};

/// Entries per block. The maxima of blocks give a lower bound for the k-th largest entry, so that only a few entries need
/// comparing; 256 makes about 200 blocks of a usual vocabulary.
const BLOCK: usize = 256;
/// Independent running values, so that the compiler may use vectors.
const LANES: usize = 16;

/// What a pass over a row found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    max: f32,
    block_max: Vec<f32>,
    /// Used by passes that need a value per block and by partial selection.
    block_sum: Vec<f64>,
    sorted_max: Vec<f32>,
}

impl Scan {
    /// Finds the maxima and that all entries are finite.
    pub(super) fn read(&mut self, logits: &[f32]) -> Result<(), NotFinite> {
        self.block_max.clear();
        let mut not_finite = false;
        for block in logits.chunks(BLOCK) {
            let mut max = [f32::NEG_INFINITY; LANES];
            // Zero times a finite number is zero; times NaN or infinity it is NaN, which stays.
            let mut zero = [0.0_f32; LANES];
            let (chunks, rest) = block.as_chunks::<LANES>();
            for chunk in chunks {
                for lane in 0..LANES {
                    max[lane] = if chunk[lane] > max[lane] { chunk[lane] } else { max[lane] };
                    zero[lane] += chunk[lane] * 0.0;
                }
            }
            let block_max = max.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
            not_finite |= zero.iter().any(|zero| zero.is_nan()) || rest.iter().any(|logit| !logit.is_finite());
            self.block_max.push(block_max);
        }
        if not_finite || logits.is_empty() {
            return Err(NotFinite);
        }
        self.max = self.block_max.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        Ok(())
    }

    pub(super) const fn max(&self) -> f32 {
        self.max
    }

    /// The lowest id with the largest logit.
    pub(super) fn argmax(&self, logits: &[f32]) -> TokenId {
        let block = self.block_max.iter().position(|max| *max == self.max).unwrap_or(0);
        let first = block * BLOCK;
        let place = logits[first..].iter().position(|logit| *logit == self.max).unwrap_or(0);
        token_id(first + place)
    }

    /// The logarithm of the sum of all exponentials; stable, because the largest is taken out first.
    pub(super) fn log_sum_exp(&mut self, logits: &[f32]) -> f32 {
        let sum = self.sum_weights(logits, 1.0);
        (f64::from(self.max) + sum.ln()) as f32
    }

    /// Sum of the weights `exp((logit - max) / temperature)`. Leaves the sums of the blocks in `block_sum`.
    pub(super) fn sum_weights(&mut self, logits: &[f32], inverse_temperature: f32) -> f64 {
        self.block_sum.clear();
        let max = self.max;
        self.block_sum.extend(logits.chunks(BLOCK).map(|block| {
            let mut sum = [0.0_f32; LANES];
            let (chunks, rest) = block.as_chunks::<LANES>();
            for chunk in chunks {
                for lane in 0..LANES {
                    sum[lane] += exp((chunk[lane] - max) * inverse_temperature);
                }
            }
            let rest = rest.iter().map(|logit| exp((logit - max) * inverse_temperature));
            f64::from(sum.into_iter().chain(rest).sum::<f32>())
        }));
        self.block_sum.iter().sum()
    }

    /// Draws from the whole row: finds the block, then the entry, at which the running sum passes `uniform` of the total.
    pub(super) fn draw(&mut self, logits: &[f32], inverse_temperature: f32, uniform: f64) -> TokenId {
        let mut target = uniform * self.sum_weights(logits, inverse_temperature);
        let last_block = self.block_sum.len() - 1;
        let mut block = 0;
        while block < last_block && target >= self.block_sum[block] {
            target -= self.block_sum[block];
            block += 1;
        }
        let first = block * BLOCK;
        let block = &logits[first..logits.len().min(first + BLOCK)];
        let mut likeliest = 0;
        for (place, logit) in block.iter().enumerate() {
            target -= f64::from(exp((logit - self.max) * inverse_temperature));
            if target < 0.0 {
                return token_id(first + place);
            }
            if *logit > block[likeliest] {
                likeliest = place;
            }
        }
        // Rounding let the target pass the block's end.
        token_id(first + likeliest)
    }

    /// Collects exactly the `num` likeliest entries, in no order.
    pub(super) fn largest(&mut self, logits: &[f32], num: usize, out: &mut Vec<Candidate>) {
        let bound = self.lower_bound_of_largest(num);
        self.at_least(logits, bound, out);
        if out.len() > num {
            out.select_nth_unstable_by(num, Candidate::likelier_first);
            out.truncate(num);
        }
    }

    /// Collects the entries that are not below `bound`, in order of id.
    pub(super) fn at_least(&self, logits: &[f32], bound: f32, out: &mut Vec<Candidate>) {
        out.clear();
        for (index, (block, max)) in logits.chunks(BLOCK).zip(&self.block_max).enumerate() {
            if *max < bound {
                continue;
            }
            let entries = block.iter().enumerate().filter(|(_, logit)| **logit >= bound);
            out.extend(entries.map(|(place, logit)| Candidate { id: token_id(index * BLOCK + place), value: *logit }));
        }
    }

    /// A number that at least `num` entries reach: the `num`-th largest of the blocks' maxima, each of which is an entry.
    fn lower_bound_of_largest(&mut self, num: usize) -> f32 {
        if num == 0 || num > self.block_max.len() {
            return f32::NEG_INFINITY;
        }
        self.sorted_max.clone_from(&self.block_max);
        *self.sorted_max.select_nth_unstable_by(num - 1, |a, b| b.total_cmp(a)).1
    }
}

/// `e^x` for `x <= 0`, with a relative error below 4e-7; in plain arithmetic, so that loops over it become vectors (the
/// standard library's is a call per element, four times slower). Below -87 it stays at `e^-87`, about 1e-38.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = if x > -87.0 { x } else { -87.0 };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let power = shifted - ROUND;
    let rest = x - power * LN2_HIGH - power * LN2_LOW;
    // Taylor series up to the sixth power: |rest| is at most ln(2) / 2.
    let mut series = 1.0 / 720.0;
    for coefficient in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        series = series * rest + coefficient;
    }
    // The low bits of `shifted` are the integer; moved into the exponent they make the power of two.
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    series * f32::from_bits(exponent)
}

/// A place in a row as a token id. Vocabularies are far below 2^32.
const fn token_id(place: usize) -> TokenId {
    place as TokenId
}
