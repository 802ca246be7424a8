//! Rotary positions.

/// Rotates one head by its position: the pairs are `i` and `i + head_dim / 2`.
pub fn rope(head: &[f32], theta: f32, position: u32) -> Vec<f64> {
    let half = head.len() / 2;
    let mut out = vec![0.0; head.len()];
    for pair in 0..half {
        let angle = f64::from(position) * f64::from(theta).powf(-2.0 * pair as f64 / head.len() as f64);
        let (a, b) = (f64::from(head[pair]), f64::from(head[pair + half]));
        out[pair] = a * angle.cos() - b * angle.sin();
        out[pair + half] = b * angle.cos() + a * angle.sin();
    }
    out
}
