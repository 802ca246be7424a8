//! Sixteen lanes in an array: any machine, and the meaning that the other instruction sets must match.

use half::{bf16, f16};

use super::simd::{LANES, Simd, Task};

/// Plain Rust. `f32::mul_add` keeps it to the same bits as the vector paths, at the price of a library call where the
/// machine has no fused multiply-add.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

type F = [f32; LANES];
type I = [i32; LANES];

#[inline(always)]
fn zip(a: F, b: F, op: impl Fn(f32, f32) -> f32) -> F {
    std::array::from_fn(|lane| op(a[lane], b[lane]))
}

#[inline(always)]
fn tree<T: Copy>(value: [T; LANES], op: impl Fn(T, T) -> T) -> T {
    let eight: [T; 8] = std::array::from_fn(|lane| op(value[lane], value[lane + 8]));
    let four: [T; 4] = std::array::from_fn(|lane| op(eight[lane], eight[lane + 4]));
    op(op(four[0], four[2]), op(four[1], four[3]))
}

impl Simd for Scalar {
    type F = F;
    type I = I;
    type B = [u8; 64];

    const PANEL_ROWS: usize = 4;

    #[inline(always)]
    fn call<T: Task>(self, task: T) -> T::Output {
        task.run(self)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> F {
        [value; LANES]
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> F {
        *from
    }
    #[inline(always)]
    fn store(self, value: F, to: &mut [f32; LANES]) {
        *to = value;
    }
    #[inline(always)]
    fn add(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: F, b: F, c: F) -> F {
        std::array::from_fn(|lane| a[lane].mul_add(b[lane], c[lane]))
    }
    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: F, b: F) -> F {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn sum(self, value: F) -> f32 {
        tree(value, |a, b| a + b)
    }
    #[inline(always)]
    fn any_above(self, value: F, bound: f32) -> bool {
        value.iter().any(|lane| *lane > bound)
    }
    #[inline(always)]
    fn max_lane(self, value: F) -> f32 {
        tree(value, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn keep_first(self, value: F, count: usize, fill: f32) -> F {
        std::array::from_fn(|lane| if lane < count { value[lane] } else { fill })
    }

    #[inline(always)]
    fn load_f16(self, from: &[u16; LANES]) -> F {
        from.map(|bits| f16::from_bits(bits).to_f32())
    }
    #[inline(always)]
    fn load_bf16(self, from: &[u16; LANES]) -> F {
        from.map(|bits| bf16::from_bits(bits).to_f32())
    }
    #[inline(always)]
    fn store_f16(self, value: F, to: &mut [u16; LANES]) {
        *to = value.map(|value| f16::from_f32(value).to_bits());
    }
    #[inline(always)]
    fn load_u8(self, from: &[u8; LANES]) -> F {
        from.map(f32::from)
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; LANES]) -> F {
        from.map(f32::from)
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> I {
        [value; LANES]
    }
    #[inline(always)]
    fn times_add(self, value: I, factor: i32, addend: I) -> I {
        std::array::from_fn(|lane| value[lane].wrapping_mul(factor).wrapping_add(addend[lane]))
    }
    #[inline(always)]
    fn int_to_float(self, value: I) -> F {
        value.map(|value| value as f32)
    }
    #[inline(always)]
    fn round(self, value: F) -> I {
        value.map(|value| value.round_ties_even() as i32)
    }
    #[inline(always)]
    fn exp2_int(self, value: I) -> F {
        value.map(|value| f32::from_bits((value.wrapping_add(127) as u32) << 23))
    }
    #[inline(always)]
    fn sum_int(self, value: I) -> i32 {
        value.iter().fold(0, |sum, value| sum.wrapping_add(*value))
    }
    #[inline(always)]
    fn abs_bits(self, value: F) -> I {
        value.map(|value| (value.to_bits() & 0x7fff_ffff) as i32)
    }
    #[inline(always)]
    fn max_int(self, a: I, b: I) -> I {
        std::array::from_fn(|lane| a[lane].max(b[lane]))
    }
    #[inline(always)]
    fn max_lane_int(self, value: I) -> i32 {
        tree(value, i32::max)
    }
    #[inline(always)]
    fn store_bytes(self, value: I, to: &mut [i32; LANES / 4]) {
        for (to, four) in to.iter_mut().zip(value.as_chunks::<4>().0) {
            *to = i32::from_ne_bytes(four.map(|value| value as u8));
        }
    }

    #[inline(always)]
    fn load_bytes(self, from: &[u8; 64]) -> Self::B {
        *from
    }
    #[inline(always)]
    fn low_nibbles(self, bytes: Self::B) -> Self::B {
        bytes.map(|byte| byte & 15)
    }
    #[inline(always)]
    fn high_nibbles(self, bytes: Self::B) -> Self::B {
        bytes.map(|byte| byte >> 4)
    }
    #[inline(always)]
    fn dot_small(self, acc: I, weights: Self::B, x: i32) -> I {
        let x = x.to_ne_bytes().map(|byte| i32::from(byte as i8));
        std::array::from_fn(|lane| (0..4).fold(acc[lane], |sum, at| sum + i32::from(weights[4 * lane + at]) * x[at]))
    }
    #[inline(always)]
    fn start_signed(self, _around_128: i32) -> I {
        [0; LANES]
    }
    #[inline(always)]
    fn dot_signed(self, acc: I, weights: Self::B, x: i32) -> I {
        let x = x.to_ne_bytes().map(|byte| i32::from(byte as i8));
        std::array::from_fn(|lane| {
            (0..4).fold(acc[lane], |sum, at| sum + (i32::from(weights[4 * lane + at]) - 128) * x[at])
        })
    }

    #[inline(always)]
    fn prefetch(self, _from: *const u8) {}
}
