//! A LoRA pair in the layout that the kernels read.

mod packed;

use half::{bf16, f16};

use crate::cpu::isa::simd::LANES;
use crate::error::{KernelError, check_equal, check_limit};
use crate::format::{MAX_RANK, SlabType};
use crate::runs::{self, Pair};

/// Matrices A `[rank, in_features]` and B `[out_features, rank]` of one module of one adapter: `delta(x) = B A x`, with
/// the adapter's scale folded into B.
///
/// A lies row by row. B lies in tiles of 16 outputs, `[out_features / 16][rank][16]`, so that both are read as streams.
/// Rows and tiles are filled up to 16 with zeros; the rank is not.
pub struct LoraPair {
    rank: usize,
    in_features: usize,
    out_features: usize,
    slab_type: SlabType,
    a: Vec<[u16; LANES]>,
    b: Vec<[u16; LANES]>,
    gain: Option<Vec<f32>>,
}

/// Rows that a pair acts on.
pub type LoraRun<'a> = runs::LoraRun<'a, LoraPair>;

/// What must be known of a pair to read its slabs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairSizes {
    /// The inner width: rows of A, columns of B.
    pub rank: usize,
    /// Width of the input.
    pub in_features: usize,
    /// Width of the output.
    pub out_features: usize,
    /// How the numbers are kept.
    pub slab_type: SlabType,
    /// Whether it is a DoRA pair.
    pub has_gain: bool,
}

impl PairSizes {
    /// Bytes of the slabs.
    pub fn num_bytes(&self) -> usize {
        LoraPair::packed_bytes(self.rank, self.in_features, self.out_features, self.has_gain)
    }
}

impl LoraPair {
    /// Packs `a` `[rank, in_features]` and `b` `[out_features, rank]`, both row-major, and folds `scale` into B.
    ///
    /// ```
    /// use souk_kernels::SlabType;
    /// use souk_kernels::cpu::LoraPair;
    /// let pair = LoraPair::pack(1, 2, 3, &[1.0, 2.0], &[1.0, 0.0, -1.0], 0.5, SlabType::Bf16)?;
    /// assert_eq!((pair.rank(), pair.in_features(), pair.out_features()), (1, 2, 3));
    /// # Ok::<(), souk_kernels::KernelError>(())
    /// ```
    pub fn pack(
        rank: usize,
        in_features: usize,
        out_features: usize,
        a: &[f32],
        b: &[f32],
        scale: f32,
        slab_type: SlabType,
    ) -> Result<LoraPair, KernelError> {
        const OP: &str = "LoraPair::pack";
        check_limit(OP, "rank", MAX_RANK, rank)?;
        check_equal(OP, "values of A", rank.saturating_mul(in_features), a.len())?;
        check_equal(OP, "values of B", rank.saturating_mul(out_features), b.len())?;
        let half = |value: f32| match slab_type {
            SlabType::Bf16 => bf16::from_f32(value).to_bits(),
            SlabType::F16 => f16::from_f32(value).to_bits(),
        };
        let row_vectors = in_features.div_ceil(LANES);
        let mut packed_a = vec![[0; LANES]; rank * row_vectors];
        for (at, value) in a.iter().enumerate() {
            let (row, input) = (at / in_features, at % in_features);
            packed_a[row * row_vectors + input / LANES][input % LANES] = half(*value);
        }
        let mut packed_b = vec![[0; LANES]; out_features.div_ceil(LANES) * rank];
        for (at, value) in b.iter().enumerate() {
            let (output, column) = (at / rank, at % rank);
            packed_b[output / LANES * rank + column][output % LANES] = half(*value * scale);
        }
        Ok(LoraPair { rank, in_features, out_features, slab_type, a: packed_a, b: packed_b, gain: None })
    }

    /// Makes it a DoRA pair: with `g` the gain of an output, the contribution is `g * (W x + B A x) - W x`.
    pub fn with_gain(self, gain: Vec<f32>) -> Result<LoraPair, KernelError> {
        check_equal("LoraPair::with_gain", "gains", self.out_features, gain.len())?;
        Ok(LoraPair { gain: Some(gain), ..self })
    }

    /// The inner width: rows of A, columns of B.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Width of the input.
    pub fn in_features(&self) -> usize {
        self.in_features
    }

    /// Width of the output.
    pub fn out_features(&self) -> usize {
        self.out_features
    }

    /// How the numbers are kept.
    pub fn slab_type(&self) -> SlabType {
        self.slab_type
    }

    /// Gain per output, of a DoRA pair.
    pub fn gain(&self) -> Option<&[f32]> {
        self.gain.as_deref()
    }

    /// Bytes of memory that A, B and the gain take.
    pub fn size_bytes(&self) -> usize {
        size_of_val(self.a.as_slice())
            + size_of_val(self.b.as_slice())
            + self.gain.as_ref().map_or(0, |gain| size_of_val(gain.as_slice()))
    }

    /// What [`Self::size_bytes`] of a pair of these sizes will be: budgets are reserved before a pair is packed.
    pub fn packed_bytes(rank: usize, in_features: usize, out_features: usize, has_gain: bool) -> usize {
        let vectors = rank * (in_features.div_ceil(LANES) + out_features.div_ceil(LANES));
        vectors * size_of::<[u16; LANES]>() + usize::from(has_gain) * out_features * size_of::<f32>()
    }

    /// The numbers of A as stored, `[rank, in_features]`.
    pub fn a_f32(&self) -> Vec<f32> {
        let row_vectors = self.in_features.div_ceil(LANES);
        let at = |row: usize, input: usize| self.value(self.a[row * row_vectors + input / LANES][input % LANES]);
        (0..self.rank)
            .flat_map(|row| (0..self.in_features).map(move |input| (row, input)))
            .map(|(row, input)| at(row, input))
            .collect()
    }

    /// The numbers of B as stored, scale included, `[out_features, rank]`.
    pub fn b_f32(&self) -> Vec<f32> {
        let at = |output: usize, column: usize| self.value(self.b[output / LANES * self.rank + column][output % LANES]);
        (0..self.out_features)
            .flat_map(|output| (0..self.rank).map(move |column| (output, column)))
            .map(|(output, column)| at(output, column))
            .collect()
    }

    fn value(&self, bits: u16) -> f32 {
        match self.slab_type {
            SlabType::Bf16 => bf16::from_bits(bits).to_f32(),
            SlabType::F16 => f16::from_bits(bits).to_f32(),
        }
    }

    /// Rows of A: `in_features / 16` vectors each, rounded up.
    #[inline(always)]
    pub(crate) fn a_rows(&self, first: usize, count: usize) -> &[[u16; LANES]] {
        let row_vectors = self.in_features.div_ceil(LANES);
        &self.a[first * row_vectors..][..count * row_vectors]
    }

    /// Tiles of B: `rank` vectors each.
    #[inline(always)]
    pub(crate) fn b_tiles(&self, first: usize, count: usize) -> &[[u16; LANES]] {
        &self.b[first * self.rank..][..count * self.rank]
    }
}

impl Pair for LoraPair {
    #[inline(always)]
    fn rank(&self) -> usize {
        self.rank
    }
}
