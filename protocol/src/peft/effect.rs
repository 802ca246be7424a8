//! How much an adapter changes, told from one pass over its weights. A pair whose product vanishes is dead: it costs
//! memory and time and changes no answer.
//!
//! The Frobenius norm of `B A` comes from two small matrices, `|B A|² = sum of (BᵀB) * (A Aᵀ)` element by element, so
//! that neither the product nor both halves are ever held.

use std::collections::BTreeMap;

use half::{bf16, f16};

use super::MAX_RANK;
use super::modules::{Module, ModuleSite};
use super::names::{self, TensorRole};
use super::plan::AdapterPlan;
use super::tensors::{TensorEntry, TensorType};

/// Below this `|scale * B A|` is lost when it is added to the base's output in single precision: rows of a trained
/// matrix have norms of about 1, and 2^-24 of that is the last bit. The faintest step of training moves more.
const FAINTEST: f64 = 1e-8;
/// What is left of a product whose parts cancel is rounding.
const CANCELLED: f64 = 1e-7;
/// Scaled numbers of B up to this become zero when a half-precision pair is packed.
const LARGEST_LOST_HALF: f64 = 1.0 / (1 << 25) as f64;
/// Largest A that is held for its small matrix. No base model served needs more; of a larger one an upper bound is
/// told.
const MAX_HELD_ELEMENTS: usize = 4 << 20;
/// Most that small matrices whose other half has not come take together.
const MAX_PENDING_ELEMENTS: usize = 2 << 20;

/// What each part of an adapter does.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// Every pair, in the plan's order.
    pub pairs: Vec<PairEffect>,
    /// How many norms are replaced. Whether by other weights, the base's own would have to tell.
    pub num_norms: usize,
    /// Whether the pairs have magnitudes (DoRA), which may change something where a product vanishes.
    pub has_magnitudes: bool,
}

/// What one pair does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairEffect {
    /// The layer and module that it acts on.
    pub site: ModuleSite,
    /// Inner width of the pair.
    pub rank: usize,
    /// Frobenius norm of `scale * B A`.
    pub norm: f64,
    /// Whether the product vanishes where it is used.
    pub is_dead: bool,
}

/// What the pairs on one kind of module do, in all layers together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModuleEffect {
    /// The kind of module, such as `q_proj`.
    pub module: Module,
    /// How many pairs there are.
    pub num_pairs: usize,
    /// How many of them are dead.
    pub num_dead: usize,
    /// Lowest and highest rank.
    pub ranks: (usize, usize),
    /// Smallest, middle and largest norm.
    pub norms: (f64, f64, f64),
}

impl Effect {
    /// The pairs that change nothing.
    pub fn dead(&self) -> impl Iterator<Item = ModuleSite> {
        self.pairs.iter().filter(|pair| pair.is_dead).map(|pair| pair.site)
    }

    /// Whether nothing of the base model is changed, as far as the adapter's own files tell.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.num_norms == 0 && self.pairs.iter().all(|pair| pair.is_dead)
    }

    /// The pairs by kind of module, in the order of [`Module`]; kinds without pairs are left out.
    #[must_use]
    pub fn by_module(&self) -> Vec<ModuleEffect> {
        let mut pairs_of = BTreeMap::<Module, Vec<&PairEffect>>::new();
        for pair in &self.pairs {
            pairs_of.entry(pair.site.module).or_default().push(pair);
        }
        let summed = |(module, mut pairs): (Module, Vec<&PairEffect>)| {
            pairs.sort_by(|one, other| one.norm.total_cmp(&other.norm));
            let ranks = pairs.iter().map(|pair| pair.rank);
            ModuleEffect {
                module,
                num_pairs: pairs.len(),
                num_dead: pairs.iter().filter(|pair| pair.is_dead).count(),
                ranks: (ranks.clone().min().unwrap_or(0), ranks.max().unwrap_or(0)),
                norms: (pairs[0].norm, pairs[pairs.len() / 2].norm, pairs[pairs.len() - 1].norm),
            }
        };
        pairs_of.into_iter().map(summed).collect()
    }
}

/// Sums over the halves of all pairs of a file.
#[derive(Debug, Default)]
pub(super) struct EffectSums {
    pairs: BTreeMap<ModuleSite, PairSums>,
    pending_elements: usize,
}

#[derive(Debug, Default)]
struct PairSums {
    a: Option<Half>,
    b: Option<Half>,
    /// `|B A|²`, once both small matrices were there.
    product: Option<f64>,
}

/// Sums over one half of a pair.
#[derive(Debug)]
struct Half {
    /// Square sum of each row of A or column of B.
    squares: Vec<f64>,
    /// `A Aᵀ` or `BᵀB`, `[rank, rank]`; only the part on and below the diagonal counts.
    gram: Option<Vec<f64>>,
    largest: f32,
}

impl EffectSums {
    /// Takes the sums over a tensor that was measured to its end.
    pub(super) fn add(&mut self, measured: Measure) {
        let pair = self.pairs.entry(measured.site).or_default();
        let (mine, other) = if measured.is_a { (&mut pair.a, &mut pair.b) } else { (&mut pair.b, &mut pair.a) };
        let mut half = measured.half;
        if let (Some(one), Some(two)) = (&half.gram, other.as_ref().and_then(|other| other.gram.as_ref()))
            && one.len() == two.len()
        {
            pair.product = Some(square_of_product(one, two, half.squares.len()));
            self.pending_elements -= two.len();
            half.gram = None;
            if let Some(other) = other {
                other.gram = None;
            }
        } else if let Some(gram) = &half.gram {
            if self.pending_elements + gram.len() > MAX_PENDING_ELEMENTS {
                half.gram = None;
            } else {
                self.pending_elements += gram.len();
            }
        }
        *mine = Some(half);
    }

    /// The largest magnitude in A and in B of a pair; 0 for what was not measured.
    pub(super) fn largest_of(&self, site: ModuleSite) -> (f32, f32) {
        let largest = |half: &Option<Half>| half.as_ref().map_or(0.0, |half| half.largest);
        self.pairs.get(&site).map_or((0.0, 0.0), |pair| (largest(&pair.a), largest(&pair.b)))
    }

    /// What the adapter of `plan`, whose file these sums are over, does.
    pub(super) fn of_plan(&self, plan: &AdapterPlan) -> Effect {
        let effect = |pair: &super::PairPlan| {
            let is_half = pair.a.dtype == TensorType::F16 && pair.b.dtype == TensorType::F16;
            let (norm, is_dead) = match self.pairs.get(&pair.site) {
                Some(sums) => sums.norm(f64::from(pair.scale).abs(), is_half),
                // A tensor without elements was never measured.
                None => (0.0, true),
            };
            PairEffect { site: pair.site, rank: pair.rank, norm, is_dead }
        };
        Effect {
            pairs: plan.pairs.iter().map(effect).collect(),
            num_norms: plan.norms.len(),
            has_magnitudes: plan.pairs.iter().any(|pair| pair.magnitude.is_some()),
        }
    }
}

impl PairSums {
    /// The norm of the scaled product, and whether it is lost.
    fn norm(&self, scale: f64, is_half: bool) -> (f64, bool) {
        let (Some(a), Some(b)) = (&self.a, &self.b) else { return (0.0, true) };
        // The triangle inequality over the products of a column and a row.
        let at_most: f64 = a.squares.iter().zip(&b.squares).map(|(a, b)| (a * b).sqrt()).sum();
        let norm = self.product.map_or(at_most, |square| square.max(0.0).sqrt().min(at_most));
        let is_lost_half = is_half && scale * f64::from(b.largest) <= LARGEST_LOST_HALF;
        (scale * norm, scale * norm < FAINTEST || norm <= CANCELLED * at_most || is_lost_half)
    }
}

/// Sum over all elements of two symmetric matrices, of which the lower part is there.
fn square_of_product(one: &[f64], two: &[f64], rank: usize) -> f64 {
    let mut sum = 0.0;
    for row in 0..rank {
        for column in 0..row {
            sum += 2.0 * one[row * rank + column] * two[row * rank + column];
        }
        sum += one[row * rank + row] * two[row * rank + row];
    }
    sum
}

/// One half of a pair while its elements come, in order.
#[derive(Debug)]
pub(super) struct Measure {
    site: ModuleSite,
    is_a: bool,
    half: Half,
    /// Length of a row of the tensor.
    width: usize,
    /// The rows of A so far, or the row of B that is being read; empty where no small matrix is made.
    rows: Vec<f32>,
    /// Where the next element stands.
    row: usize,
    column: usize,
}

impl Measure {
    /// For a tensor that is half of a pair by its name and shape.
    pub(super) fn of(tensor: &TensorEntry) -> Option<Self> {
        let (site, is_a) = match names::read(&tensor.name).ok()?.role {
            TensorRole::A(site) => (site, true),
            TensorRole::B(site) => (site, false),
            TensorRole::Magnitude(_) | TensorRole::Norm(_) | TensorRole::HeadCopy => return None,
        };
        let [height, width] = tensor.shape[..] else { return None };
        let rank = if is_a { height } else { width };
        if !(1..=MAX_RANK).contains(&rank) {
            return None;
        }
        let is_small = !is_a || rank.checked_mul(width).is_some_and(|held| held <= MAX_HELD_ELEMENTS);
        let gram = is_small.then(|| vec![0.0; rank * rank]);
        let half = Half { squares: vec![0.0; rank], gram, largest: 0.0 };
        Some(Self { site, is_a, half, width, rows: Vec::new(), row: 0, column: 0 })
    }

    /// Takes the next elements, whole ones.
    pub(super) fn push(&mut self, dtype: TensorType, elements: &[u8]) {
        match dtype {
            TensorType::F16 => {
                elements.chunks_exact(2).for_each(|b| self.take(f16::from_le_bytes([b[0], b[1]]).to_f32()));
            }
            TensorType::BF16 => {
                elements.chunks_exact(2).for_each(|b| self.take(bf16::from_le_bytes([b[0], b[1]]).to_f32()));
            }
            TensorType::F32 => {
                elements.chunks_exact(4).for_each(|b| self.take(f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
            }
        }
    }

    fn take(&mut self, value: f32) {
        self.half.largest = self.half.largest.max(value.abs());
        self.half.squares[if self.is_a { self.row } else { self.column }] += f64::from(value) * f64::from(value);
        if self.half.gram.is_some() {
            self.rows.push(value);
        }
        self.column += 1;
        if self.column == self.width {
            self.end_row();
            self.column = 0;
            self.row += 1;
        }
    }

    fn end_row(&mut self) {
        let Some(gram) = &mut self.half.gram else { return };
        if self.is_a {
            let rank = self.half.squares.len();
            let (earlier, last) = self.rows.split_at(self.row * self.width);
            for (other, cell) in earlier.chunks_exact(self.width).chain([last]).zip(&mut gram[self.row * rank..]) {
                *cell = dot(other, last);
            }
        } else {
            for (index, factor) in self.rows.iter().enumerate() {
                let cells = &mut gram[index * self.width..][..=index];
                for (cell, value) in cells.iter_mut().zip(&self.rows) {
                    *cell += f64::from(*factor) * f64::from(*value);
                }
            }
            self.rows.clear();
        }
    }
}

/// Inner product in double precision, in eight sums so that it does not wait for each addition.
fn dot(one: &[f32], two: &[f32]) -> f64 {
    let (one, one_rest) = one.as_chunks::<8>();
    let (two, two_rest) = two.as_chunks::<8>();
    let mut sums = [0.0f64; 8];
    for (one, two) in one.iter().zip(two) {
        for lane in 0..8 {
            sums[lane] += f64::from(one[lane]) * f64::from(two[lane]);
        }
    }
    let rest = one_rest.iter().zip(two_rest).map(|(a, b)| f64::from(*a) * f64::from(*b));
    sums.iter().sum::<f64>() + rest.sum::<f64>()
}

#[cfg(test)]
mod tests;
