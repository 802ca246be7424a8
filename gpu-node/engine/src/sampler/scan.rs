//! Passes over a row of logits.

use souk_protocol::TokenId;

use super::candidate::{BadRow, Candidate};

/// Entries per block. The maxima of blocks give a lower bound for the k-th largest entry, so that only a few entries
/// need comparing; 256 makes about 200 blocks of a usual vocabulary.
pub(super) const BLOCK: usize = 256;
/// Independent running values, so that the compiler may use vectors.
pub(super) const LANES: usize = 16;

/// What a pass over a row found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    max: f32,
    block_max: Vec<f32>,
    /// Used by partial selection.
    sorted_max: Vec<f32>,
}

impl Scan {
    /// Finds the maxima and that all entries are finite.
    pub(super) fn read(&mut self, logits: &[f32]) -> Result<(), BadRow> {
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
            return Err(BadRow::NotFinite);
        }
        self.max = self.block_max.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        Ok(())
    }

    pub(super) const fn max(&self) -> f32 {
        self.max
    }

    /// The largest entry of each block.
    pub(super) fn block_max(&self) -> &[f32] {
        &self.block_max
    }

    /// The lowest id with the largest logit.
    pub(super) fn argmax(&self, logits: &[f32]) -> TokenId {
        let block = self.block_max.iter().position(|max| *max == self.max).unwrap_or(0);
        let first = block * BLOCK;
        let place = logits[first..].iter().position(|logit| *logit == self.max).unwrap_or(0);
        token_id(first + place)
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

    /// A number that at least `num` entries reach: the `num`-th largest of the blocks' maxima, each of which is an
    /// entry.
    fn lower_bound_of_largest(&mut self, num: usize) -> f32 {
        if num == 0 || num > self.block_max.len() {
            return f32::NEG_INFINITY;
        }
        self.sorted_max.clone_from(&self.block_max);
        *self.sorted_max.select_nth_unstable_by(num - 1, |a, b| b.total_cmp(a)).1
    }
}

/// A place in a row as a token id. Vocabularies are far below 2^32.
pub(super) const fn token_id(place: usize) -> TokenId {
    place as TokenId
}
