//! What the kernels ask of an instruction set: sixteen lanes of f32 and i32, and four bytes per lane.
//!
//! Kernels (`crate::cpu::lanes`) are written once over this trait. Every method has one exact meaning (IEEE operations,
//! a fixed tree for sums across lanes), so all instruction sets give the same bits.
//!
//! A value of a type that implements [`Simd`] is a proof that the machine has the instructions: only
//! `Cpu::with_isa` makes one, after asking the CPU. That is what makes the methods safe to call.
//!
//! Kernels and all they call must be `#[inline(always)]` up to a [`Simd::call`], which is the boundary at which the
//! compiler is told of the instruction set. A helper that is not inlined is right but slow.

/// Lanes per vector, whatever the instruction set. Weight tiles have as many outputs.
pub(crate) const LANES: usize = 16;

/// Work that is compiled once per instruction set.
pub(crate) trait Task {
    /// What the work returns.
    type Output;
    /// Does the work. Implementations are `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Sixteen lanes. See the module's text.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// 16 f32.
    type F: Copy;
    /// 16 i32.
    type I: Copy;
    /// 64 bytes: four for each lane.
    type B: Copy;

    /// Rows of activations that the quantised matmul keeps in registers at once; at most 8.
    const PANEL_ROWS: usize;

    /// Runs a task in a function of its own that is compiled for this instruction set.
    fn call<T: Task>(self, task: T) -> T::Output;

    fn splat(self, value: f32) -> Self::F;
    fn load(self, from: &[f32; LANES]) -> Self::F;
    fn store(self, value: Self::F, to: &mut [f32; LANES]);
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `if a > b { a } else { b }`: a NaN in `b` stays.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `if a < b { a } else { b }`: a NaN in `b` stays.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// Sum of the lanes by the tree 8+8, 4+4, 2+2, 1+1.
    fn sum(self, value: Self::F) -> f32;
    /// Whether a lane is above `bound`; a NaN is not.
    fn any_above(self, value: Self::F, bound: f32) -> bool;
    /// Greatest lane by the same tree of [`Simd::max`].
    fn max_lane(self, value: Self::F) -> f32;
    /// The first `count` lanes; the others become `fill`.
    fn keep_first(self, value: Self::F, count: usize, fill: f32) -> Self::F;

    fn load_f16(self, from: &[u16; LANES]) -> Self::F;
    fn load_bf16(self, from: &[u16; LANES]) -> Self::F;
    /// Rounds to nearest even.
    fn store_f16(self, value: Self::F, to: &mut [u16; LANES]);
    fn load_u8(self, from: &[u8; LANES]) -> Self::F;
    fn load_i8(self, from: &[i8; LANES]) -> Self::F;

    fn splat_int(self, value: i32) -> Self::I;
    /// `value * factor + addend`.
    fn times_add(self, value: Self::I, factor: i32, addend: Self::I) -> Self::I;
    fn int_to_float(self, value: Self::I) -> Self::F;
    /// Nearest even. The value is within i32, or a NaN, for which the result is any number.
    fn round(self, value: Self::F) -> Self::I;
    /// `2^value` for a value in -126..=127.
    fn exp2_int(self, value: Self::I) -> Self::F;
    fn sum_int(self, value: Self::I) -> i32;
    /// The bits of `|value|`: ordered like the absolute values, infinity and NaN on top.
    fn abs_bits(self, value: Self::F) -> Self::I;
    fn max_int(self, a: Self::I, b: Self::I) -> Self::I;
    fn max_lane_int(self, value: Self::I) -> i32;
    /// As bytes in the order of lanes, four to a word in the order of memory. Each value is within i8.
    fn store_bytes(self, value: Self::I, to: &mut [i32; LANES / 4]);

    fn load_bytes(self, from: &[u8; 64]) -> Self::B;
    /// `byte & 15`.
    fn low_nibbles(self, bytes: Self::B) -> Self::B;
    /// `byte >> 4`.
    fn high_nibbles(self, bytes: Self::B) -> Self::B;
    /// Per lane `acc + sum of weight * x` over its four bytes. Weights are unsigned and at most 63; `x` holds four i8
    /// of at least -127, the same for all lanes.
    fn dot_small(self, acc: Self::I, weights: Self::B, x: i32) -> Self::I;
    /// Where a chain of [`Simd::dot_signed`] starts. `around_128` is -128 times the sum of all `x` of the chain; an
    /// instruction set whose `dot_signed` takes 128 from the weights does not need it.
    fn start_signed(self, around_128: i32) -> Self::I;
    /// Like [`Simd::dot_small`] for signed weights, stored as `weight + 128`, once the start is counted in.
    fn dot_signed(self, acc: Self::I, weights: Self::B, x: i32) -> Self::I;

    /// Asks for the cache line at `from` ahead of its use.
    fn prefetch(self, from: *const u8);

    /// Up to 16 values; missing lanes are zero.
    #[inline(always)]
    fn load_part(self, from: &[f32]) -> Self::F {
        if let Some(all) = from.first_chunk() {
            return self.load(all);
        }
        let mut lanes = [0.0; LANES];
        for (lane, value) in lanes.iter_mut().zip(from) {
            *lane = *value;
        }
        self.load(&lanes)
    }

    /// As many of the first lanes as `to` holds, at most 16.
    #[inline(always)]
    fn store_part(self, value: Self::F, to: &mut [f32]) {
        if let Some(all) = to.first_chunk_mut() {
            self.store(value, all);
            return;
        }
        let mut lanes = [0.0; LANES];
        self.store(value, &mut lanes);
        for (to, lane) in to.iter_mut().zip(lanes) {
            *to = lane;
        }
    }
}
