//! RMS norm and SwiGLU.

/// `x / sqrt(mean(x^2) + eps) * weight` of one row.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f64> {
    let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / x.len() as f64;
    let inverse = 1.0 / (mean + f64::from(eps)).sqrt();
    x.iter().zip(weight).map(|(x, weight)| f64::from(*x) * inverse * f64::from(*weight)).collect()
}

/// `gate / (1 + e^-gate) * up` of one row.
pub fn swiglu(gate: &[f32], up: &[f32]) -> Vec<f64> {
    let silu = |gate: f64| gate / (1.0 + (-gate).exp());
    gate.iter().zip(up).map(|(gate, up)| silu(f64::from(*gate)) * f64::from(*up)).collect()
}
