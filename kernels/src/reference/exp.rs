//! The numerators of a softmax.

/// `exp((x - greatest) * scale)` of each value.
pub fn exp_scaled(x: &[f32], greatest: f32, scale: f32) -> Vec<f64> {
    x.iter().map(|x| ((f64::from(*x) - f64::from(greatest)) * f64::from(scale)).exp()).collect()
}
