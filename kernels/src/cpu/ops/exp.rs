//! Front of `exp_scaled`.

use crate::cpu::backend::call;
use crate::cpu::isa::Isa;
use crate::cpu::lanes::exp::ExpScaled;
use crate::error::{KernelError, check_equal};

/// `out[i] = exp((x[i] - greatest) * scale)` for `x[i] <= greatest`; returns the sum of `out`. Results below about
/// 1.2e-38 stay there.
///
/// This op runs on the calling thread alone, so that several threads may each work on a row of their own.
///
/// ```
/// let mut out = [0.0; 2];
/// let isa = souk_kernels::cpu::Isa::best();
/// let sum = souk_kernels::cpu::ops::exp_scaled(isa, &[3.0, 2.0], 3.0, 1.0, &mut out)?;
/// assert_eq!((out[0], sum), (1.0, 1.0 + out[1]));
/// # Ok::<(), souk_kernels::KernelError>(())
/// ```
pub fn exp_scaled(isa: Isa, x: &[f32], greatest: f32, scale: f32, out: &mut [f32]) -> Result<f32, KernelError> {
    check_equal("exp_scaled", "out", x.len(), out.len())?;
    call(isa, ExpScaled { x, greatest, scale, out })
}
