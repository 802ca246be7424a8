//! `W x`.

use crate::cpu::Matrix;

/// `out[j] = sum over k of W[j, k] * x[k]` for one row.
pub fn matmul(matrix: &Matrix, x: &[f32]) -> Vec<f64> {
    let mut weights = vec![0.0; matrix.in_features()];
    (0..matrix.out_features())
        .map(|row| {
            matrix.dequantize_row(row, &mut weights);
            weights.iter().zip(x).map(|(weight, x)| f64::from(*weight) * f64::from(*x)).sum()
        })
        .collect()
}
