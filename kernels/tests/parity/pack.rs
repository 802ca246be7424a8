//! Packing against an independent reader of the block formats, and on bytes that nobody made.

use candle_core::quantized::{GgmlDType, ggml_file::qtensor_from_ggml};
use candle_core::{DType, Device};
use proptest::prelude::*;
use souk_kernels::cpu::ops::embed;
use souk_kernels::cpu::{Cpu, Matrix};
use souk_kernels::{KernelError, WeightType};

use crate::support::{Random, assert_same_bits, backends, matrix_bytes};

fn candle_type(weight_type: WeightType) -> GgmlDType {
    match weight_type {
        WeightType::F32 => GgmlDType::F32,
        WeightType::F16 => GgmlDType::F16,
        WeightType::BF16 => GgmlDType::BF16,
        WeightType::Q4_0 => GgmlDType::Q4_0,
        WeightType::Q4_1 => GgmlDType::Q4_1,
        WeightType::Q5_0 => GgmlDType::Q5_0,
        WeightType::Q5_1 => GgmlDType::Q5_1,
        WeightType::Q8_0 => GgmlDType::Q8_0,
        WeightType::Q4_K => GgmlDType::Q4K,
        WeightType::Q5_K => GgmlDType::Q5K,
        WeightType::Q6_K => GgmlDType::Q6K,
    }
}

fn dequantized(matrix: &Matrix) -> Vec<f32> {
    let mut out = vec![f32::NAN; matrix.out_features() * matrix.in_features()];
    for (row, out) in out.chunks_mut(matrix.in_features()).enumerate() {
        matrix.dequantize_row(row, out);
    }
    out
}

#[test]
fn packed_rows_are_what_candle_reads_from_the_same_bytes() {
    let mut random = Random::new(10);
    for weight_type in WeightType::ALL {
        for out_features in [1, 16, 21] {
            let bytes = matrix_bytes(&mut random, weight_type, out_features, 512);
            let tensor = qtensor_from_ggml(candle_type(weight_type), &bytes, vec![out_features, 512], &Device::Cpu)
                .and_then(|tensor| tensor.dequantize(&Device::Cpu))
                .and_then(|tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>())
                .expect("candle reads the format");
            let matrix = Matrix::pack(weight_type, out_features, 512, &bytes, None).expect("sizes fit");
            for (at, (expected, given)) in tensor.iter().zip(dequantized(&matrix)).enumerate() {
                let error = (expected - given).abs();
                assert!(error <= 1e-6 * expected.abs().max(0.1), "{weight_type:?} {at}: {given}, should be {expected}");
            }
        }
    }
}

#[test]
fn a_row_order_moves_rows() {
    let mut random = Random::new(11);
    for weight_type in WeightType::ALL {
        let bytes = matrix_bytes(&mut random, weight_type, 20, 256);
        let order: Vec<u32> = (0..20).map(|row| row * 7 % 20).collect();
        let plain = dequantized(&Matrix::pack(weight_type, 20, 256, &bytes, None).expect("sizes fit"));
        let moved = dequantized(&Matrix::pack(weight_type, 20, 256, &bytes, Some(&order)).expect("sizes fit"));
        for (row, source) in order.iter().enumerate() {
            let source = *source as usize * 256;
            assert_same_bits(&plain[source..source + 256], &moved[row * 256..][..256], "row");
        }
    }
}

#[test]
fn the_packed_size_stays_near_the_file() {
    let mut random = Random::new(12);
    for weight_type in WeightType::ALL {
        let bytes = matrix_bytes(&mut random, weight_type, 64, 1024);
        let packed = Matrix::pack(weight_type, 64, 1024, &bytes, None).expect("sizes fit").size_bytes();
        // Weights of five and six bits take a byte each.
        let allowed = match weight_type {
            WeightType::Q5_0 | WeightType::Q5_1 | WeightType::Q5_K => 1.6,
            WeightType::Q6_K => 1.35,
            WeightType::Q4_K => 1.03,
            _ => 1.0,
        };
        assert!(packed as f64 <= allowed * bytes.len() as f64, "{weight_type:?}: {packed} for {}", bytes.len());
    }
}

#[test]
fn embed_reads_rows_by_token() {
    let mut random = Random::new(13);
    for weight_type in WeightType::ALL {
        let bytes = matrix_bytes(&mut random, weight_type, 40, 256);
        let table = Matrix::pack(weight_type, 40, 256, &bytes, None).expect("sizes fit");
        let rows = dequantized(&table);
        let tokens: Vec<u32> = (0..37).map(|at| at * 11 % 40).collect();
        for cpu in backends() {
            let mut out = vec![f32::NAN; tokens.len() * 256];
            embed(&cpu, &table, &tokens, &mut out).expect("shapes fit");
            for (token, out) in tokens.iter().zip(out.chunks(256)) {
                assert_same_bits(&rows[*token as usize * 256..][..256], out, "embedding");
            }
        }
    }
    let table = Matrix::pack(WeightType::F32, 1, 1, &[0; 4], None).expect("sizes fit");
    let error = embed(&Cpu::new(1), &table, &[1], &mut [0.0]);
    assert_eq!(error, Err(KernelError::Limit { op: "embed", what: "token", limit: 0, given: 1 }));
}

proptest! {
    #[test]
    fn any_bytes_of_the_right_length_pack_and_read_back(
        at in 0..WeightType::ALL.len(),
        out_features in 0_usize..40,
        num_blocks in 0_usize..4,
        seed in any::<u64>(),
    ) {
        let weight_type = WeightType::ALL[at];
        let in_features = num_blocks * weight_type.block_len();
        let bytes = Random::new(seed).bytes(out_features * num_blocks * weight_type.block_bytes());
        let matrix = Matrix::pack(weight_type, out_features, in_features, &bytes, None).expect("sizes fit");
        let mut row = vec![0.0; in_features];
        for at in 0..out_features {
            matrix.dequantize_row(at, &mut row);
        }
    }

    #[test]
    fn bytes_of_any_other_length_are_refused(
        at in 0..WeightType::ALL.len(),
        out_features in 0_usize..40,
        in_features in 0_usize..600,
        num_bytes in 0_usize..2000,
    ) {
        let weight_type = WeightType::ALL[at];
        let fits = in_features % weight_type.block_len() == 0
            && out_features * (in_features / weight_type.block_len()) * weight_type.block_bytes() == num_bytes;
        let packed = Matrix::pack(weight_type, out_features, in_features, &vec![0; num_bytes], None);
        prop_assert_eq!(packed.is_ok(), fits);
    }
}
