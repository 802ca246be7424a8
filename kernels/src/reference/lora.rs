//! The contribution of one adapter to one row.

use crate::cpu::LoraPair;

/// `B A x`, or with a gain `g * (base + B A x) - base`.
pub fn lora_delta(pair: &LoraPair, x: &[f32], base: &[f32]) -> Vec<f64> {
    let dot = |row: &[f32], x: &[f64]| row.iter().zip(x).map(|(a, x)| f64::from(*a) * x).sum::<f64>();
    let x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
    let shrunk: Vec<f64> = pair.a_f32().chunks(pair.in_features().max(1)).map(|row| dot(row, &x)).collect();
    let b = pair.b_f32();
    (0..pair.out_features())
        .map(|output| {
            let delta = dot(&b[output * pair.rank()..][..pair.rank()], &shrunk);
            match pair.gain() {
                Some(gain) => f64::from(gain[output]) * (f64::from(base[output]) + delta) - f64::from(base[output]),
                None => delta,
            }
        })
        .collect()
}
