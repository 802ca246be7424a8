//! Model files from strangers: an error that says what is wrong, never a panic.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;
use souk_protocol::LlamaShape;

use crate::driver::{Sequence, load, run_alone, runner};
use crate::tiny::{BLOCKY, SMALL, TinyModel};

const ONE_LAYER: LlamaShape = LlamaShape { num_layers: 1, vocab_size: 32, intermediate_size: 64, ..SMALL };

fn error(path: &Path) -> String {
    load(path, path.parent().unwrap()).expect_err("the file is not a good model").to_string()
}

#[test]
fn a_gguf_file_that_lacks_or_adds_a_tensor_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let change = |name: &str, tensor: Option<Tensor>| {
        let mut model = TinyModel::random(ONE_LAYER, 1);
        match tensor {
            Some(tensor) => model.tensors.insert(name.to_owned(), tensor),
            None => model.tensors.remove(name),
        };
        model.write_gguf(&path, GgmlDType::F16);
        error(&path)
    };
    let zeros = |dims: &[usize]| Some(Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap());
    let missing = change("model.layers.0.mlp.up_proj.weight", None);
    assert!(missing.contains("blk.0.ffn_up.weight is missing"), "{missing}");
    let bias = change("model.layers.0.self_attn.q_proj.bias", zeros(&[64]));
    assert!(bias.contains("blk.0.attn_q.bias is not part"), "{bias}");
    let shape = change("model.layers.0.mlp.up_proj.weight", zeros(&[32, 64]));
    assert!(shape.contains("has shape [32, 64] and must have [64, 64]"), "{shape}");
}

#[test]
fn a_type_that_is_not_supported_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    TinyModel::random(BLOCKY, 1).write_gguf(&path, GgmlDType::Q2K);
    let refused = error(&path);
    assert!(refused.contains("GGML type 10") && refused.contains("Q4_1"), "{refused}");

    let folder = folder.path().join("folder");
    let model = TinyModel::random(ONE_LAYER, 1);
    model.write_folder(&folder, DType::F64, 1);
    let refused = error(&folder);
    assert!(refused.contains("F64") && refused.contains("BF16"), "{refused}");
}

#[test]
fn a_cut_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    TinyModel::random(ONE_LAYER, 1).write_gguf(&path, GgmlDType::F16);
    let bytes = fs::read(&path).unwrap();
    for len in [0, 3, 24, 1000, bytes.len() - 3000] {
        fs::write(&path, &bytes[..len]).unwrap();
        error(&path);
    }
    let folder = folder.path().join("folder");
    TinyModel::random(ONE_LAYER, 1).write_folder(&folder, DType::F16, 1);
    let path = folder.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    for len in [0, 7, 8, 100, bytes.len() - 1] {
        fs::write(&path, &bytes[..len]).unwrap();
        error(&folder);
    }
    fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
    assert!(error(&folder).contains("the header says"));
}

#[test]
fn an_index_may_name_files_beside_it_only() {
    let folder = tempfile::tempdir().unwrap();
    TinyModel::random(ONE_LAYER, 1).write_folder(folder.path(), DType::F16, 2);
    let index = r#"{"weight_map": {"model.norm.weight": "../model.safetensors"}}"#;
    fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    assert!(error(folder.path()).contains("../model.safetensors"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_change_to_a_gguf_header_makes_loading_or_running_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        TinyModel::random(ONE_LAYER, 1).write_gguf(&path, GgmlDType::Q8_0);
        let mut bytes = fs::read(&path).unwrap();
        // The header and the first norm; the rest is weights.
        let header = bytes.len().min(4000);
        for (index, byte) in changes {
            bytes[index.index(header)] = byte;
        }
        fs::write(&path, bytes).unwrap();
        if let Ok(base) = load(&path, folder.path()) {
            let vocab_size = base.model.shape.vocab_size as u32;
            let logits = run_alone(&mut runner(&Arc::new(base.weights), 1), Sequence::new([0, vocab_size - 1], &[]));
            prop_assert_eq!(logits.len(), 2);
        }
    }
}

/// What loading a folder says when one of its files has these bytes.
fn fuzz_file(target: &str, file: &str, padding: usize) {
    let folder = tempfile::tempdir().unwrap();
    TinyModel::random(ONE_LAYER, 1).write_folder(folder.path(), DType::F16, 1);
    let path = folder.path().join(file);
    souk_testkit::fuzz(target, |bytes| {
        fs::write(&path, [bytes, &vec![0; padding]].concat()).unwrap();
        match load(folder.path(), folder.path()) {
            Ok(base) => format!("{:?}", base.model.shape.num_layers),
            Err(error) => error.to_string().replace(&folder.path().display().to_string(), ""),
        }
    });
}

#[test]
fn any_bytes_of_a_models_config_are_read_or_refused() {
    fuzz_file("model_config", "config.json", 0);
}

#[test]
fn any_bytes_of_a_models_weights_are_read_or_refused() {
    // Headers alone fit into a kept input; what they speak of is zeros.
    fuzz_file("model_weights", "model.safetensors", 64 << 10);
}
