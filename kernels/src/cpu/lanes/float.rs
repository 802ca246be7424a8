//! The floats that weights and adapters are stored as.

use crate::cpu::isa::simd::{LANES, Simd};
use crate::cpu::tiles::HalfLanes;

/// How 16 stored weights become lanes.
pub(crate) trait FloatWeights {
    type Stored: Sync;
    fn load<S: Simd>(s: S, stored: &Self::Stored) -> S::F;
}

pub(crate) struct F16;
pub(crate) struct BF16;
pub(crate) struct F32;

impl FloatWeights for F16 {
    type Stored = HalfLanes;
    #[inline(always)]
    fn load<S: Simd>(s: S, stored: &HalfLanes) -> S::F {
        s.load_f16(stored)
    }
}

impl FloatWeights for BF16 {
    type Stored = HalfLanes;
    #[inline(always)]
    fn load<S: Simd>(s: S, stored: &HalfLanes) -> S::F {
        s.load_bf16(stored)
    }
}

impl FloatWeights for F32 {
    type Stored = [f32; LANES];
    #[inline(always)]
    fn load<S: Simd>(s: S, stored: &[f32; LANES]) -> S::F {
        s.load(stored)
    }
}
