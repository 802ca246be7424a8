//! AVX-512 with VNNI: one register per vector.

use std::arch::x86_64::*;

use super::simd::{LANES, Simd, Task};

/// Proof that the machine has AVX-512 F, BW, VL, DQ, VNNI, FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The proof.
    ///
    /// # Safety
    /// `Isa::Avx512.is_available()` has returned true.
    pub(in crate::cpu) unsafe fn assume_available() -> Avx512 {
        Avx512(())
    }
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn call_with_features<T: Task>(simd: Avx512, task: T) -> T::Output {
    task.run(simd)
}

/// One call of an intrinsic.
macro_rules! isa {
    ($call:expr) => {
        // SAFETY: `self` is the proof that the instructions exist; pointers come from references of the full width.
        unsafe { $call }
    };
}

impl Simd for Avx512 {
    type F = __m512;
    type I = __m512i;
    type B = __m512i;

    const PANEL_ROWS: usize = 8;

    #[inline(always)]
    fn call<T: Task>(self, task: T) -> T::Output {
        isa!(call_with_features(self, task))
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        isa!(_mm512_set1_ps(value))
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> __m512 {
        isa!(_mm512_loadu_ps(from.as_ptr()))
    }
    #[inline(always)]
    fn store(self, value: __m512, to: &mut [f32; LANES]) {
        isa!(_mm512_storeu_ps(to.as_mut_ptr(), value));
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        isa!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        isa!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        isa!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        isa!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        isa!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        isa!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        isa!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn sum(self, value: __m512) -> f32 {
        isa!({
            let eight = _mm256_add_ps(_mm512_castps512_ps256(value), _mm512_extractf32x8_ps::<1>(value));
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        })
    }
    #[inline(always)]
    fn any_above(self, value: __m512, bound: f32) -> bool {
        isa!(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(value, _mm512_set1_ps(bound)) != 0)
    }
    #[inline(always)]
    fn max_lane(self, value: __m512) -> f32 {
        isa!({
            let eight = _mm256_max_ps(_mm512_castps512_ps256(value), _mm512_extractf32x8_ps::<1>(value));
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        })
    }
    #[inline(always)]
    fn keep_first(self, value: __m512, count: usize, fill: f32) -> __m512 {
        let mask = if count >= LANES { u16::MAX } else { (1 << count) - 1 };
        isa!(_mm512_mask_blend_ps(mask, _mm512_set1_ps(fill), value))
    }

    #[inline(always)]
    fn load_f16(self, from: &[u16; LANES]) -> __m512 {
        isa!(_mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())))
    }
    #[inline(always)]
    fn load_bf16(self, from: &[u16; LANES]) -> __m512 {
        isa!({
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        })
    }
    #[inline(always)]
    fn store_f16(self, value: __m512, to: &mut [u16; LANES]) {
        isa!(_mm256_storeu_si256(to.as_mut_ptr().cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(value)));
    }
    #[inline(always)]
    fn load_u8(self, from: &[u8; LANES]) -> __m512 {
        isa!(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.as_ptr().cast()))))
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; LANES]) -> __m512 {
        isa!(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast()))))
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> __m512i {
        isa!(_mm512_set1_epi32(value))
    }
    #[inline(always)]
    fn times_add(self, value: __m512i, factor: i32, addend: __m512i) -> __m512i {
        isa!(_mm512_add_epi32(_mm512_mullo_epi32(value, _mm512_set1_epi32(factor)), addend))
    }
    #[inline(always)]
    fn int_to_float(self, value: __m512i) -> __m512 {
        isa!(_mm512_cvtepi32_ps(value))
    }
    #[inline(always)]
    fn round(self, value: __m512) -> __m512i {
        isa!(_mm512_cvtps_epi32(value))
    }
    #[inline(always)]
    fn exp2_int(self, value: __m512i) -> __m512 {
        isa!(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(value, _mm512_set1_epi32(127)))))
    }
    #[inline(always)]
    fn sum_int(self, value: __m512i) -> i32 {
        isa!(_mm512_reduce_add_epi32(value))
    }
    #[inline(always)]
    fn abs_bits(self, value: __m512) -> __m512i {
        isa!(_mm512_and_si512(_mm512_castps_si512(value), _mm512_set1_epi32(0x7fff_ffff)))
    }
    #[inline(always)]
    fn max_int(self, a: __m512i, b: __m512i) -> __m512i {
        isa!(_mm512_max_epi32(a, b))
    }
    #[inline(always)]
    fn max_lane_int(self, value: __m512i) -> i32 {
        isa!(_mm512_reduce_max_epi32(value))
    }
    #[inline(always)]
    fn store_bytes(self, value: __m512i, to: &mut [i32; LANES / 4]) {
        isa!(_mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(value)));
    }

    #[inline(always)]
    fn load_bytes(self, from: &[u8; 64]) -> __m512i {
        isa!(_mm512_loadu_si512(from.as_ptr().cast()))
    }
    #[inline(always)]
    fn low_nibbles(self, bytes: __m512i) -> __m512i {
        isa!(_mm512_and_si512(bytes, _mm512_set1_epi8(15)))
    }
    #[inline(always)]
    fn high_nibbles(self, bytes: __m512i) -> __m512i {
        isa!(_mm512_and_si512(_mm512_srli_epi16::<4>(bytes), _mm512_set1_epi8(15)))
    }
    #[inline(always)]
    fn dot_small(self, acc: __m512i, weights: __m512i, x: i32) -> __m512i {
        isa!(_mm512_dpbusd_epi32(acc, weights, _mm512_set1_epi32(x)))
    }
    #[inline(always)]
    fn start_signed(self, around_128: i32) -> __m512i {
        isa!(_mm512_set1_epi32(around_128))
    }
    #[inline(always)]
    fn dot_signed(self, acc: __m512i, weights: __m512i, x: i32) -> __m512i {
        isa!(_mm512_dpbusd_epi32(acc, weights, _mm512_set1_epi32(x)))
    }

    #[inline(always)]
    fn prefetch(self, from: *const u8) {
        // A prefetch of any address is allowed: it never faults.
        isa!(_mm_prefetch::<_MM_HINT_T0>(from.cast()));
    }
}
