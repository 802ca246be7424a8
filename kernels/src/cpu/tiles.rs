//! Packed weights: tiles of 16 outputs. How they come to be is `pack`'s.

use crate::cpu::isa::simd::LANES;
use crate::cpu::slab::Slab;

/// Lines of quants, and factors per tile and block.
pub(crate) struct Quantized<F> {
    pub(crate) lines: Slab<Line>,
    pub(crate) factors: Slab<F>,
}

/// 16 half floats, one per output.
pub(crate) type HalfLanes = [u16; LANES];

/// The packed forms. Tiles follow one another; inside a tile, blocks follow in the order of the inputs.
pub(crate) enum Tiles {
    /// 4-bit values around 8 and one scale: `Q4_0`.
    NibbleScale(Quantized<HalfLanes>),
    /// 4-bit values, scale and minimum: `Q4_1`.
    NibbleMin(Quantized<[HalfLanes; 2]>),
    /// 4-bit values, factored scales and minima: `Q4_K`.
    NibbleK32(Quantized<FactorsK32>),
    /// Signed bytes stored + 128, one scale: `Q8_0`, `Q5_0`.
    ByteScale(Quantized<HalfLanes>),
    /// Small bytes, scale and minimum: `Q5_1`.
    ByteMin(Quantized<[HalfLanes; 2]>),
    /// Small bytes, factored scales and minima: `Q5_K`.
    ByteK32(Quantized<FactorsK32>),
    /// Signed bytes stored + 128, factored scales per 16: `Q6_K`.
    ByteK16(Quantized<FactorsK16>),
    /// Half floats, 16 outputs for each input.
    F16(Slab<HalfLanes>),
    /// Brain floats, 16 outputs for each input.
    BF16(Slab<HalfLanes>),
    /// Floats, 16 outputs for each input.
    F32(Slab<[f32; LANES]>),
}

/// A cache line of quants.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u8; 64]);

/// Factors of 256 inputs in eight groups, of 16 outputs.
#[derive(Clone, Copy)]
pub(crate) struct FactorsK32 {
    /// f16; multiplies `scales`.
    pub(crate) scale: HalfLanes,
    /// f16, negated; multiplies `mins`.
    pub(crate) neg_min: HalfLanes,
    pub(crate) scales: [[u8; LANES]; 8],
    pub(crate) mins: [[u8; LANES]; 8],
}

/// Factors of 256 inputs in sixteen groups, of 16 outputs.
#[derive(Clone, Copy)]
pub(crate) struct FactorsK16 {
    /// f16; multiplies `groups`.
    pub(crate) scale: HalfLanes,
    pub(crate) groups: [[i8; LANES]; 16],
}
