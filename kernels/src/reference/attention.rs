//! Attention of one query over keys and values that lie in plain rows.

/// One query and what it attends to.
#[derive(Debug, Clone, Copy)]
pub struct AttentionRow<'a> {
    /// `[head_dim]`.
    pub query: &'a [f32],
    /// `[tokens][head_dim]`.
    pub keys: &'a [Vec<f32>],
    /// `[tokens][head_dim]`.
    pub values: &'a [Vec<f32>],
}

/// `softmax(q k / sqrt(head_dim)) v`.
pub fn attention(row: AttentionRow<'_>) -> Vec<f64> {
    let dim = row.query.len();
    let score = |key: &Vec<f32>| {
        let dot: f64 = row.query.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
        dot / (dim as f64).sqrt()
    };
    let scores: Vec<f64> = row.keys.iter().map(score).collect();
    let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - highest).exp()).collect();
    let total: f64 = weights.iter().sum();
    (0..dim)
        .map(|at| {
            weights.iter().zip(row.values).map(|(weight, value)| weight * f64::from(value[at])).sum::<f64>() / total
        })
        .collect()
}
