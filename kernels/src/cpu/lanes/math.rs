//! `exp` and what is made of it.

use crate::cpu::isa::simd::Simd;

/// Below this the result is kept at about 1.2e-38, the smallest normal number.
const EXP_LOW: f32 = -87.336_54;
/// Above this the result is kept at about 2.4e38.
const EXP_HIGH: f32 = 88.376_26;

/// `e^x`, relative error below 2e-7 between the bounds above; a NaN stays a NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`; `e^r` by a polynomial of degree 6 (Cephes' coefficients), `2^n` by its
/// exponent bits.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    let x = s.max(s.splat(EXP_LOW), x);
    let x = s.min(s.splat(EXP_HIGH), x);
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let n_float = s.int_to_float(n);
    // ln 2 in two parts: the first has few bits, so that its product with n is exact.
    let r = s.fma(n_float, s.splat(-0.693_359_4), x);
    let r = s.fma(n_float, s.splat(2.121_944_4e-4), r);
    let mut sum = s.splat(1.987_569_1e-4);
    sum = s.fma(sum, r, s.splat(1.398_199_9e-3));
    sum = s.fma(sum, r, s.splat(8.333_452e-3));
    sum = s.fma(sum, r, s.splat(4.166_579_6e-2));
    sum = s.fma(sum, r, s.splat(1.666_666_6e-1));
    sum = s.fma(sum, r, s.splat(0.5));
    let e_r = s.add(s.fma(s.mul(r, r), sum, r), s.splat(1.0));
    s.mul(e_r, s.exp2_int(n))
}

/// `x / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn silu<S: Simd>(s: S, x: S::F) -> S::F {
    let negated = s.sub(s.splat(0.0), x);
    s.div(x, s.add(s.splat(1.0), exp(s, negated)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::backend::Cpu;
    use crate::cpu::backend::Kernel;
    use crate::cpu::isa::Isa;
    use crate::cpu::isa::simd::LANES;
    use crate::cpu::shared::SharedMut;

    struct ExpOf<'a>(&'a [f32; LANES], SharedMut<'a, f32>);

    impl Kernel for ExpOf<'_> {
        #[inline(always)]
        fn run_chunk<S: Simd>(&self, s: S, _chunk: usize) {
            // SAFETY: there is one chunk.
            let out = unsafe { self.1.part(0, LANES) };
            s.store_part(exp(s, s.load(self.0)), out);
        }
    }

    fn exp_on(cpu: &Cpu, x: [f32; LANES]) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        cpu.launch(1, &ExpOf(&x, SharedMut::new(&mut out)));
        out
    }

    #[test]
    fn exp_is_within_the_stated_error_and_the_same_everywhere() {
        for isa in Isa::available() {
            let cpu = Cpu::with_isa(1, isa).expect("available");
            let scalar = Cpu::with_isa(1, Isa::Scalar).expect("always there");
            for step in -8_700..8_800 {
                let x: [f32; LANES] = std::array::from_fn(|lane| step as f32 * 0.01 + lane as f32 * 6.1e-4);
                let out = exp_on(&cpu, x);
                assert_eq!(out, exp_on(&scalar, x), "{isa:?}");
                for (x, out) in x.into_iter().zip(out) {
                    let truth = f64::from(x).exp();
                    assert!((f64::from(out) - truth).abs() <= 2e-7 * truth, "exp({x}) = {out}, {isa:?}");
                }
            }
        }
    }

    #[test]
    fn exp_of_strange_numbers_is_bounded_or_nan() {
        for isa in Isa::available() {
            let cpu = Cpu::with_isa(1, isa).expect("available");
            let x = std::array::from_fn(|lane| [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0][lane % 4]);
            let out = exp_on(&cpu, x);
            assert!(out[0].is_nan() && out[1].is_finite() && out[2] > 0.0 && out[3] == 1.0, "{isa:?}: {out:?}");
        }
    }
}
