//! The numerators of a softmax over a stretch of a row.

use super::math::exp;
use crate::cpu::isa::simd::{LANES, Simd, Task};

/// `out = exp((x - greatest) * scale)`; returns the sum of `out`.
pub(crate) struct ExpScaled<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) greatest: f32,
    pub(crate) scale: f32,
    pub(crate) out: &'a mut [f32],
}

impl Task for ExpScaled<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let (greatest, scale) = (s.splat(self.greatest), s.splat(self.scale));
        let mut sum = s.splat(0.0);
        for (out, x) in self.out.chunks_mut(LANES).zip(self.x.chunks(LANES)) {
            let weight = exp(s, s.mul(s.sub(s.load_part(x), greatest), scale));
            let weight = if x.len() < LANES { s.keep_first(weight, x.len(), 0.0) } else { weight };
            s.store_part(weight, out);
            sum = s.add(sum, weight);
        }
        s.sum(sum)
    }
}
