//! AVX2 with FMA and F16C: two registers per vector.

use std::arch::x86_64::*;

use super::simd::{LANES, Simd, Task};

/// Proof that the machine has AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The proof.
    ///
    /// # Safety
    /// `Isa::Avx2.is_available()` has returned true.
    pub(in crate::cpu) unsafe fn assume_available() -> Avx2 {
        Avx2(())
    }
}

#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c")]
fn call_with_features<T: Task>(simd: Avx2, task: T) -> T::Output {
    task.run(simd)
}

/// One call of an intrinsic.
macro_rules! isa {
    ($call:expr) => {
        // SAFETY: `self` is the proof that the instructions exist; pointers come from references of the full width.
        unsafe { $call }
    };
}

/// The first and the last eight lanes.
type Pair<T> = [T; 2];

impl Simd for Avx2 {
    type F = Pair<__m256>;
    type I = Pair<__m256i>;
    type B = Pair<__m256i>;

    const PANEL_ROWS: usize = 4;

    #[inline(always)]
    fn call<T: Task>(self, task: T) -> T::Output {
        isa!(call_with_features(self, task))
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        isa!([_mm256_set1_ps(value); 2])
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F {
        isa!([_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))])
    }
    #[inline(always)]
    fn store(self, value: Self::F, to: &mut [f32; LANES]) {
        isa!({
            _mm256_storeu_ps(to.as_mut_ptr(), value[0]);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), value[1]);
        });
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        isa!([_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        isa!([_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        isa!([_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        isa!([_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        isa!([_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])])
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        isa!([_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        isa!([_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn sum(self, value: Self::F) -> f32 {
        isa!({
            let eight = _mm256_add_ps(value[0], value[1]);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        })
    }
    #[inline(always)]
    fn any_above(self, value: Self::F, bound: f32) -> bool {
        isa!({
            let bound = _mm256_set1_ps(bound);
            let above = value.map(|half| _mm256_cmp_ps::<_CMP_GT_OQ>(half, bound));
            _mm256_movemask_ps(_mm256_or_ps(above[0], above[1])) != 0
        })
    }
    #[inline(always)]
    fn max_lane(self, value: Self::F) -> f32 {
        isa!({
            let eight = _mm256_max_ps(value[0], value[1]);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        })
    }
    #[inline(always)]
    fn keep_first(self, value: Self::F, count: usize, fill: f32) -> Self::F {
        isa!({
            let count = _mm256_set1_epi32(count.min(LANES) as i32);
            let fill = _mm256_set1_ps(fill);
            let low = _mm256_cmpgt_epi32(count, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
            let high = _mm256_cmpgt_epi32(count, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15));
            [
                _mm256_blendv_ps(fill, value[0], _mm256_castsi256_ps(low)),
                _mm256_blendv_ps(fill, value[1], _mm256_castsi256_ps(high)),
            ]
        })
    }

    #[inline(always)]
    fn load_f16(self, from: &[u16; LANES]) -> Self::F {
        isa!([
            _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast())),
            _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().add(8).cast())),
        ])
    }
    #[inline(always)]
    fn load_bf16(self, from: &[u16; LANES]) -> Self::F {
        isa!({
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.as_ptr().cast()));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.as_ptr().add(8).cast()));
            [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)), _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high))]
        })
    }
    #[inline(always)]
    fn store_f16(self, value: Self::F, to: &mut [u16; LANES]) {
        isa!({
            let low = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(value[0]);
            let high = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(value[1]);
            _mm_storeu_si128(to.as_mut_ptr().cast(), low);
            _mm_storeu_si128(to.as_mut_ptr().add(8).cast(), high);
        });
    }
    #[inline(always)]
    fn load_u8(self, from: &[u8; LANES]) -> Self::F {
        isa!({
            let bytes = _mm_loadu_si128(from.as_ptr().cast());
            [
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128::<8>(bytes))),
            ]
        })
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; LANES]) -> Self::F {
        isa!({
            let bytes = _mm_loadu_si128(from.as_ptr().cast());
            [
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128::<8>(bytes))),
            ]
        })
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> Self::I {
        isa!([_mm256_set1_epi32(value); 2])
    }
    #[inline(always)]
    fn times_add(self, value: Self::I, factor: i32, addend: Self::I) -> Self::I {
        isa!({
            let factor = _mm256_set1_epi32(factor);
            [
                _mm256_add_epi32(_mm256_mullo_epi32(value[0], factor), addend[0]),
                _mm256_add_epi32(_mm256_mullo_epi32(value[1], factor), addend[1]),
            ]
        })
    }
    #[inline(always)]
    fn int_to_float(self, value: Self::I) -> Self::F {
        isa!([_mm256_cvtepi32_ps(value[0]), _mm256_cvtepi32_ps(value[1])])
    }
    #[inline(always)]
    fn round(self, value: Self::F) -> Self::I {
        isa!([_mm256_cvtps_epi32(value[0]), _mm256_cvtps_epi32(value[1])])
    }
    #[inline(always)]
    fn exp2_int(self, value: Self::I) -> Self::F {
        isa!({
            let bias = _mm256_set1_epi32(127);
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(value[0], bias))),
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(value[1], bias))),
            ]
        })
    }
    #[inline(always)]
    fn sum_int(self, value: Self::I) -> i32 {
        isa!({
            let eight = _mm256_add_epi32(value[0], value[1]);
            let four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
            let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
        })
    }
    #[inline(always)]
    fn abs_bits(self, value: Self::F) -> Self::I {
        isa!({
            let mask = _mm256_set1_epi32(0x7fff_ffff);
            [
                _mm256_and_si256(_mm256_castps_si256(value[0]), mask),
                _mm256_and_si256(_mm256_castps_si256(value[1]), mask),
            ]
        })
    }
    #[inline(always)]
    fn max_int(self, a: Self::I, b: Self::I) -> Self::I {
        isa!([_mm256_max_epi32(a[0], b[0]), _mm256_max_epi32(a[1], b[1])])
    }
    #[inline(always)]
    fn max_lane_int(self, value: Self::I) -> i32 {
        isa!({
            let eight = _mm256_max_epi32(value[0], value[1]);
            let four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
            let two = _mm_max_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
            _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
        })
    }
    #[inline(always)]
    fn store_bytes(self, value: Self::I, to: &mut [i32; LANES / 4]) {
        isa!({
            // The packs work within 128-bit halves; the permutation puts the lanes back in order.
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(value[0], value[1]));
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(to.as_mut_ptr().cast(), bytes);
        });
    }

    #[inline(always)]
    fn load_bytes(self, from: &[u8; 64]) -> Self::B {
        isa!([_mm256_loadu_si256(from.as_ptr().cast()), _mm256_loadu_si256(from.as_ptr().add(32).cast())])
    }
    #[inline(always)]
    fn low_nibbles(self, bytes: Self::B) -> Self::B {
        isa!({
            let mask = _mm256_set1_epi8(15);
            [_mm256_and_si256(bytes[0], mask), _mm256_and_si256(bytes[1], mask)]
        })
    }
    #[inline(always)]
    fn high_nibbles(self, bytes: Self::B) -> Self::B {
        isa!({
            let mask = _mm256_set1_epi8(15);
            [
                _mm256_and_si256(_mm256_srli_epi16::<4>(bytes[0]), mask),
                _mm256_and_si256(_mm256_srli_epi16::<4>(bytes[1]), mask),
            ]
        })
    }
    #[inline(always)]
    fn dot_small(self, acc: Self::I, weights: Self::B, x: i32) -> Self::I {
        isa!({
            // Two products of at most 63 * 127 fit i16, so the saturating add of `maddubs` is exact.
            let x = _mm256_set1_epi32(x);
            let ones = _mm256_set1_epi16(1);
            let low = _mm256_madd_epi16(_mm256_maddubs_epi16(weights[0], x), ones);
            let high = _mm256_madd_epi16(_mm256_maddubs_epi16(weights[1], x), ones);
            [_mm256_add_epi32(acc[0], low), _mm256_add_epi32(acc[1], high)]
        })
    }
    #[inline(always)]
    fn start_signed(self, _around_128: i32) -> Self::I {
        isa!([_mm256_setzero_si256(); 2])
    }
    #[inline(always)]
    fn dot_signed(self, acc: Self::I, weights: Self::B, x: i32) -> Self::I {
        isa!({
            // |w| * (x with the sign of w) is w * x, and 2 * 128 * 127 still fits i16. This needs x >= -127.
            let x = _mm256_set1_epi32(x);
            let ones = _mm256_set1_epi16(1);
            let flip = _mm256_set1_epi8(-128);
            let low = _mm256_xor_si256(weights[0], flip);
            let high = _mm256_xor_si256(weights[1], flip);
            let low = _mm256_maddubs_epi16(_mm256_abs_epi8(low), _mm256_sign_epi8(x, low));
            let high = _mm256_maddubs_epi16(_mm256_abs_epi8(high), _mm256_sign_epi8(x, high));
            [
                _mm256_add_epi32(acc[0], _mm256_madd_epi16(low, ones)),
                _mm256_add_epi32(acc[1], _mm256_madd_epi16(high, ones)),
            ]
        })
    }

    #[inline(always)]
    fn prefetch(self, from: *const u8) {
        // A prefetch of any address is allowed: it never faults.
        isa!(_mm_prefetch::<_MM_HINT_T0>(from.cast()));
    }
}
