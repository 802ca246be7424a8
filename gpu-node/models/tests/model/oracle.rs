//! Our forward pass beside candle's own llama, on small random models.

use std::fs::File;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, gguf_file};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{llama, quantized_llama};

use crate::driver::{Sequence, load, run_alone, runner};
use crate::tiny::{BLOCKY, Random, SMALL, TinyModel};

const NUM_TOKENS: usize = 40;

fn tokens() -> Vec<u32> {
    Random::new(11).tokens(NUM_TOKENS, SMALL.vocab_size)
}

/// Logits of every position by candle's f32 llama, fed token by token.
fn reference(model: &TinyModel, tokens: &[u32]) -> Vec<Vec<f32>> {
    let device = Device::Cpu;
    let config: llama::LlamaConfig = serde_json::from_value(model.config()).unwrap();
    let config = config.into_config(false);
    let tensors = model.tensors.clone().into_iter().collect();
    let llama = llama::Llama::load(VarBuilder::from_tensors(tensors, DType::F32, &device), &config).unwrap();
    let mut cache = llama::Cache::new(true, DType::F32, &config, &device).unwrap();
    let mut logits = Vec::new();
    for (position, token) in tokens.iter().enumerate() {
        let input = Tensor::new(&[[*token]], &device).unwrap();
        let row = llama.forward(&input, position, &mut cache).unwrap();
        logits.push(row.flatten_all().unwrap().to_vec1().unwrap());
    }
    logits
}

/// Logits of every position by candle's llama on quantised weights, which reads the file with its own reader.
fn quantized_reference(path: &std::path::Path, tokens: &[u32]) -> Vec<Vec<f32>> {
    let mut file = File::open(path).unwrap();
    let content = gguf_file::Content::read(&mut file).unwrap();
    let mut llama = quantized_llama::ModelWeights::from_gguf(content, &mut file, &Device::Cpu).unwrap();
    let mut logits = Vec::new();
    for (position, token) in tokens.iter().enumerate() {
        let input = Tensor::new(&[[*token]], &Device::Cpu).unwrap();
        let row = llama.forward(&input, position).unwrap();
        logits.push(row.flatten_all().unwrap().to_vec1().unwrap());
    }
    logits
}

/// Mean squared error in units of the reference's mean square.
fn nmse(ours: &[Vec<f32>], reference: &[Vec<f32>]) -> f64 {
    assert_eq!(ours.len(), reference.len());
    let pairs = || ours.iter().flatten().zip(reference.iter().flatten());
    let error: f64 = pairs().map(|(ours, reference)| f64::from(ours - reference).powi(2)).sum();
    let square: f64 = pairs().map(|(_, reference)| f64::from(*reference).powi(2)).sum();
    error / square
}

#[test]
fn a_safetensors_model_answers_as_candles_llama_does() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        // K and V are kept in f16, which is all that differs.
        (DType::F32, 1, false, 1e-5),
        (DType::F32, 3, true, 1e-5),
        // The oracle reads the unrounded weights: f16 and bf16 are off by their own precision.
        (DType::F16, 1, false, 1e-5),
        (DType::BF16, 2, true, 5e-4),
    ];
    for (case, (dtype, num_shards, tied, tolerance)) in cases.into_iter().enumerate() {
        let shape = souk_protocol::LlamaShape { tie_word_embeddings: tied, ..SMALL };
        let model = TinyModel::random(shape, 5);
        let path = folder.path().join(format!("model-{case}"));
        model.write_folder(&path, dtype, num_shards);
        let base = load(&path, folder.path()).unwrap();
        assert_eq!(base.model.shape, shape);
        assert_eq!((base.model.eos_tokens, base.model.bos_token), (vec![2, 3], Some(1)));
        let ours = run_alone(&mut runner(&Arc::new(base.weights), 2), Sequence::new(tokens(), &[]));
        let error = nmse(&ours, &reference(&model, &tokens()));
        println!("{dtype:?} in {num_shards} files: nmse {error:.2e}");
        assert!(error < tolerance, "{dtype:?} in {num_shards} files: nmse {error:.2e}");
    }
}

#[test]
fn a_gguf_model_answers_as_both_of_candles_llamas_do_in_every_type() {
    let folder = tempfile::tempdir().unwrap();
    let model = TinyModel::random(BLOCKY, 7);
    // To f32 on the same weights and to candle, which rounds activations to int8 where weights are quantised; ours keep
    // about 16 bits.
    let (float, quantised) = ((1e-5, 2e-5), (1e-5, 4e-3));
    let cases = [
        (GgmlDType::F32, float),
        (GgmlDType::F16, float),
        (GgmlDType::BF16, float),
        (GgmlDType::Q8_0, quantised),
        (GgmlDType::Q4_0, quantised),
        (GgmlDType::Q4_1, quantised),
        (GgmlDType::Q5_0, quantised),
        (GgmlDType::Q5_1, quantised),
        (GgmlDType::Q4K, quantised),
        (GgmlDType::Q5K, quantised),
        (GgmlDType::Q6K, quantised),
    ];
    for (dtype, (to_f32, to_candle)) in cases {
        let path = folder.path().join(format!("tiny-{dtype:?}.gguf"));
        model.write_gguf(&path, dtype);
        let base = load(&path, folder.path()).unwrap();
        assert_eq!(base.model.shape, BLOCKY);
        let ours = run_alone(&mut runner(&Arc::new(base.weights), 2), Sequence::new(tokens(), &[]));
        let exact = nmse(&ours, &reference(&model.rounded(dtype), &tokens()));
        let quantized = nmse(&ours, &quantized_reference(&path, &tokens()));
        println!("{dtype:?}: nmse {exact:.2e} to f32 on the same weights, {quantized:.2e} to candle's quantised llama");
        assert!(exact < to_f32, "{dtype:?}: nmse {exact:.2e} to f32 on the same weights");
        assert!(quantized < to_candle, "{dtype:?}: nmse {quantized:.2e} to candle's quantised llama");
    }
}

#[test]
fn a_gguf_file_describes_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("Tiny.Q8_0.gguf");
    TinyModel::random(SMALL, 7).write_gguf(&path, GgmlDType::Q8_0);
    let model = load(&path, folder.path()).unwrap().model;
    assert_eq!(model.id, "tiny.q8_0");
    assert_eq!(model.aliases, ["Tiny.Q8_0", "Tiny Llama"]);
    assert_eq!(model.digest, souk_protocol::Digest::of(&std::fs::read(&path).unwrap()));
    assert_eq!((model.bos_token, model.add_bos, model.pad_token), (Some(1), true, None));
    assert_eq!(model.eos_tokens, [2]);
    assert_eq!(model.chat_template.as_deref(), Some("{{ messages }}"));
    let souk_protocol::TokenizerSpec::ByteLevelBpe { tokens, control_tokens, merges, pre } = model.tokenizer else {
        panic!("a GGUF file has a byte-level BPE tokenizer");
    };
    assert_eq!((tokens.len(), control_tokens, merges.len(), pre.as_str()), (128, vec![0, 1, 2], 4, "smollm"));
}
