//! Made-up numbers that repeat, comparisons, and the backends to run on.

use half::f16;
use souk_kernels::WeightType;
use souk_kernels::cpu::{Activations, Cpu, Isa, Matrix, ops};

/// A generator whose numbers depend on the seed alone.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1)
    }

    pub(crate) fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ self.0 >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 32) as u32
    }

    /// Even over -1 .. 1.
    pub(crate) fn float(&mut self) -> f32 {
        self.bits() as f32 / (u32::MAX as f32) * 2.0 - 1.0
    }

    pub(crate) fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.bits() as u8).collect()
    }
}

/// One backend per instruction set and number of threads.
pub(crate) fn backends() -> Vec<Cpu> {
    let with = |isa| [1, 2, 3].map(|num_threads| Cpu::with_isa(num_threads, isa).expect("available"));
    Isa::available().into_iter().flat_map(with).collect()
}

/// A matrix's bytes: any quants, and scales around 0.01 so that sums stay small.
pub(crate) fn matrix_bytes(
    random: &mut Random,
    weight_type: WeightType,
    out_features: usize,
    in_features: usize,
) -> Vec<u8> {
    let num_weights = out_features * in_features;
    if weight_type.block_len() == 1 {
        let floats = random.floats(num_weights);
        return floats
            .into_iter()
            .flat_map(|value| match weight_type {
                WeightType::F32 => value.to_le_bytes().to_vec(),
                WeightType::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
                _ => half::bf16::from_f32(value).to_le_bytes().to_vec(),
            })
            .collect();
    }
    let mut bytes = random.bytes(num_weights / weight_type.block_len() * weight_type.block_bytes());
    let half_floats: &[usize] = match weight_type {
        WeightType::Q4_0 | WeightType::Q5_0 | WeightType::Q8_0 => &[0],
        WeightType::Q6_K => &[208],
        _ => &[0, 2],
    };
    for block in bytes.chunks_mut(weight_type.block_bytes()) {
        for at in half_floats {
            let scale = f16::from_f32(random.float() * 0.02);
            block[*at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    bytes
}

pub(crate) fn matrix(random: &mut Random, weight_type: WeightType, out_features: usize, in_features: usize) -> Matrix {
    let bytes = matrix_bytes(random, weight_type, out_features, in_features);
    Matrix::pack(weight_type, out_features, in_features, &bytes, None).expect("sizes fit")
}

/// Rows as an op would leave them.
pub(crate) fn activations(cpu: &Cpu, x: &[f32], cols: usize) -> Activations {
    let num_rows = x.len().checked_div(cols).unwrap_or(0);
    let mut out = Activations::new(num_rows, cols);
    ops::quantize(cpu, x, num_rows, &mut out).expect("sizes fit");
    out
}

/// The same bits, or both NaN (a NaN's sign and payload may differ between instruction sets).
pub(crate) fn assert_same_bits(expected: &[f32], given: &[f32], what: &str) {
    assert_eq!(expected.len(), given.len(), "{what}");
    for (at, (expected, given)) in expected.iter().zip(given).enumerate() {
        let same = expected.to_bits() == given.to_bits() || expected.is_nan() && given.is_nan();
        assert!(same, "{what}: element {at} is {given}, should be {expected}");
    }
}

/// `|given - expected| <= tolerance * magnitude` for each element.
pub(crate) fn assert_close(expected: &[f64], given: &[f32], tolerance: f64, magnitude: f64, what: &str) {
    assert_eq!(expected.len(), given.len(), "{what}");
    for (at, (expected, given)) in expected.iter().zip(given).enumerate() {
        let error = (f64::from(*given) - expected).abs();
        assert!(error <= tolerance * magnitude, "{what}: element {at} is {given}, should be {expected}");
    }
}

/// Normalised mean square error.
pub(crate) fn nmse(expected: &[f64], given: &[f32]) -> f64 {
    let error: f64 = expected.iter().zip(given).map(|(expected, given)| (expected - f64::from(*given)).powi(2)).sum();
    error / expected.iter().map(|expected| expected.powi(2)).sum::<f64>()
}
