use serde_json::{Value, json};
use souk_protocol::BaseModel;
use souk_protocol::peft::TensorHeader;
use souk_testkit::Random;
use souk_testkit::base::SMALL as SHAPE;
use souk_testkit::peft::{Stored, Tensor, weights_file};

use super::*;
use crate::samples;

const Q: &str = "layers.1.self_attn.q_proj";
const RANK: usize = 3;

fn base() -> BaseModel {
    souk_testkit::base::base("tiny", SHAPE)
}

fn weights() -> LlamaWeights {
    samples::weights(SHAPE, numbers)
}

/// Those of the base's matrix with this seed.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    Random::new(1000 + seed).floats(count)
}

fn pair(path: &str, stored: Stored, width: usize, height: usize) -> [Tensor; 2] {
    [
        Tensor::new(path, "lora_A.weight", stored, &[RANK, width]),
        Tensor::new(path, "lora_B.weight", stored, &[height, RANK]),
    ]
}

fn pack_files(config: &Value, tensors: &[Tensor]) -> Result<PackedAdapter, PackError> {
    let file = weights_file(tensors);
    let plan = AdapterPlan::check(config.to_string().as_bytes(), &file, file.len() as u64, &base()).unwrap();
    let data_start = usize::try_from(TensorHeader::parse(&file).unwrap().data_start).unwrap();
    let adapter = pack(Digest::of(b"x"), &plan, &file[data_start..], &weights())?;
    assert_eq!(adapter.size_bytes, packed_bytes(&plan, &SHAPE));
    Ok(adapter)
}

fn config(changes: &Value) -> Value {
    let mut config =
        json!({"peft_type": "LORA", "r": RANK, "lora_alpha": 6, "target_modules": ["model.layers.1.self_attn.q_proj"]});
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

#[test]
fn every_module_and_norm_lands_in_its_own_place() {
    let (hidden, wide, query, kv) = (SHAPE.hidden_size, SHAPE.intermediate_size, SHAPE.query_size(), SHAPE.kv_size());
    let layer = "layers.0";
    let mut tensors: Vec<_> = [
        ("self_attn.q_proj", hidden, query),
        ("self_attn.k_proj", hidden, kv),
        ("self_attn.v_proj", hidden, kv),
        ("self_attn.o_proj", query, hidden),
        ("mlp.gate_proj", hidden, wide),
        ("mlp.up_proj", hidden, wide),
        ("mlp.down_proj", wide, hidden),
    ]
    .into_iter()
    .flat_map(|(name, width, height)| pair(&format!("{layer}.{name}"), Stored::BF16, width, height))
    .collect();
    let mut head = pair("lm_head", Stored::BF16, hidden, SHAPE.vocab_size);
    head.iter_mut().for_each(|tensor| tensor.name = tensor.name.replace("model.model.lm_head", "model.lm_head"));
    tensors.extend(head);
    for (name, value) in [("layers.0.input_layernorm", 2.0), ("layers.1.post_attention_layernorm", 3.0), ("norm", 4.0)]
    {
        let mut norm = Tensor::new(name, "weight", Stored::F16, &[hidden]);
        norm.values.fill(value);
        tensors.push(norm);
    }
    let config = json!({
        "peft_type": "LORA", "r": RANK, "target_modules": ".*layers\\.0\\..*_proj|lm_head",
        "modules_to_save": ["norm", "layers.0.input_layernorm", "layers.1.post_attention_layernorm"],
    });
    let adapter = pack_files(&config, &tensors).unwrap();
    let widths: Vec<_> =
        adapter.layers[0].pairs().map(|pair| (pair.in_features(), pair.out_features(), pair.rank())).collect();
    let expected =
        [(hidden, query), (hidden, kv), (hidden, kv), (query, hidden), (hidden, wide), (hidden, wide), (wide, hidden)];
    assert_eq!(widths, expected.map(|(width, height)| (width, height, RANK)));
    // Same shape twice: told apart by their numbers.
    let first_number = |name: &str| tensors.iter().find(|tensor| tensor.name.contains(name)).unwrap().values[0];
    let first = |pair: &Option<LoraPair>| pair.as_ref().unwrap().a_f32()[0];
    for (pair, name) in [
        (&adapter.layers[0].k, "k_proj.lora_A"),
        (&adapter.layers[0].v, "v_proj.lora_A"),
        (&adapter.layers[0].gate, "gate_proj.lora_A"),
        (&adapter.layers[0].up, "up_proj.lora_A"),
        (&adapter.lm_head, "lm_head.lora_A"),
    ] {
        assert_eq!(first(pair), half::bf16::from_f32(first_number(name)).to_f32(), "{name}");
    }
    assert_eq!(adapter.layers[1].pairs().count(), 0);
    assert_eq!(adapter.layers[0].attn_norm, Some(vec![2.0; hidden]));
    assert_eq!(adapter.layers[1].ffn_norm, Some(vec![3.0; hidden]));
    assert_eq!(adapter.final_norm, Some(vec![4.0; hidden]));
    assert!(adapter.layers[0].ffn_norm.is_none() && adapter.layers[1].attn_norm.is_none());
}

#[test]
fn the_scale_goes_into_b_before_the_one_rounding() {
    // 5 / sqrt(3) is no power of two, so that rounding twice would show.
    let config = config(&json!({"lora_alpha": 5, "use_rslora": true}));
    let scale = (5.0 / 3f64.sqrt()) as f32;
    for stored in [Stored::F32, Stored::BF16, Stored::F16] {
        let tensors = pair(Q, stored, SHAPE.hidden_size, SHAPE.query_size());
        let adapter = pack_files(&config, &tensors).unwrap();
        let packed = adapter.layers[1].q.as_ref().unwrap();
        let read = |x: f32| match stored {
            Stored::F16 => half::f16::from_f32(x).to_f32(),
            Stored::BF16 => half::bf16::from_f32(x).to_f32(),
            _ => x,
        };
        let round = |x: f32| match stored {
            Stored::F16 => half::f16::from_f32(x).to_f32(),
            _ => half::bf16::from_f32(x).to_f32(),
        };
        let expected_a: Vec<_> = tensors[0].values.iter().map(|x| round(read(*x))).collect();
        let expected_b: Vec<_> = tensors[1].values.iter().map(|x| round(read(*x) * scale)).collect();
        assert_eq!(packed.a_f32(), expected_a, "{stored:?}");
        assert_eq!(packed.b_f32(), expected_b, "{stored:?}");
    }
}

#[test]
fn half_floats_that_the_scale_would_overflow_become_brain_floats() {
    let tensors = pair(Q, Stored::F16, SHAPE.hidden_size, SHAPE.query_size());
    let slab = |alpha: f64| {
        let adapter = pack_files(&config(&json!({"lora_alpha": alpha})), &tensors).unwrap();
        let packed = adapter.layers[1].q.as_ref().unwrap();
        assert!(packed.b_f32().iter().all(|x| x.is_finite()));
        packed.slab_type()
    };
    assert_eq!(slab(6.0), SlabType::F16);
    assert_eq!(slab(1e6), SlabType::Bf16);
}

#[test]
fn doras_gain_is_the_magnitude_over_the_norm_of_the_adapted_row() {
    let (width, height, scale) = (SHAPE.hidden_size, SHAPE.query_size(), 2.0);
    let mut tensors: Vec<_> = pair(Q, Stored::F32, width, height).into();
    let mut magnitude = Tensor::new(Q, "lora_magnitude_vector", Stored::F32, &[height]);
    magnitude.values.iter_mut().for_each(|x| *x = x.abs() + 0.5);
    tensors.push(magnitude);
    let adapter = pack_files(&config(&json!({"use_dora": true})), &tensors).unwrap();
    let gain = adapter.layers[1].q.as_ref().unwrap().gain().unwrap();
    let base_rows = numbers(10, height * width);
    let [a, b, magnitude] = [0, 1, 2].map(|index| &tensors[index].values);
    for output in 0..height {
        let norm = (0..width)
            .map(|input| {
                let delta: f32 = (0..RANK).map(|r| b[output * RANK + r] * a[r * width + input]).sum();
                base_rows[output * width + input] + scale * delta
            })
            .map(|weight| weight * weight)
            .sum::<f32>()
            .sqrt();
        let expected = magnitude[output] / norm;
        assert!((gain[output] - expected).abs() <= 1e-5 * expected, "{output}: {} {expected}", gain[output]);
    }
}

#[test]
fn numbers_that_overflow_are_refused_by_module_and_row() {
    let mut tensors = pair(Q, Stored::F32, SHAPE.hidden_size, SHAPE.query_size());
    tensors[1].values[RANK * 5] = f32::MAX;
    let error = pack_files(&config(&json!({})), &tensors).unwrap_err().to_string();
    assert_eq!(
        error,
        "model.layers.1.self_attn.q_proj: the scaled B of output 5 is inf, which is not finite when it is packed"
    );

    // A pair that cancels a row of the base leaves nothing to scale.
    let (width, height) = (SHAPE.hidden_size, SHAPE.query_size());
    let mut tensors: Vec<_> = pair(Q, Stored::F32, width, height).into();
    tensors[0].values[..width].copy_from_slice(&numbers(10, height * width)[..width]);
    tensors[1].values[..RANK].copy_from_slice(&[-0.5, 0.0, 0.0]);
    tensors.push(Tensor::new(Q, "lora_magnitude_vector", Stored::F32, &[height]));
    let error = pack_files(&config(&json!({"use_dora": true})), &tensors).unwrap_err();
    assert!(matches!(error, PackError::NotFinite { what: "DoRA gain", output: 0, .. }), "{error}");
}

#[test]
fn a_copy_of_the_head_must_be_the_bases_but_for_rounding() {
    let (hidden, vocab) = (SHAPE.hidden_size, SHAPE.vocab_size);
    let on_head = json!({"peft_type": "LORA", "r": RANK, "target_modules": ["lm_head"]});
    let with_copy = |values: Vec<f32>| {
        let mut tensors: Vec<_> = pair("lm_head", Stored::BF16, hidden, vocab).into();
        let mut copy = Tensor::new("lm_head", "base_layer.weight", Stored::BF16, &[vocab, hidden]);
        copy.values = values;
        tensors.push(copy);
        tensors.iter_mut().for_each(|tensor| tensor.name = tensor.name.replace("model.model.lm_head", "model.lm_head"));
        pack_files(&on_head, &tensors)
    };
    let head = numbers(100, vocab * hidden);
    let rounded: Vec<_> = head.iter().map(|weight| weight * 1.1).collect();
    assert!(with_copy(rounded).unwrap().lm_head.is_some());
    let error = with_copy(numbers(101, vocab * hidden)).unwrap_err().to_string();
    assert!(error.contains("another base model"), "{error}");
}

#[test]
fn weights_that_end_early_are_refused() {
    let file = weights_file(&pair(Q, Stored::F32, SHAPE.hidden_size, SHAPE.query_size()));
    let config = config(&json!({})).to_string();
    let plan = AdapterPlan::check(config.as_bytes(), &file, file.len() as u64, &base()).unwrap();
    let error = pack(Digest::of(b"x"), &plan, &[0; 8], &weights()).unwrap_err();
    assert!(matches!(error, PackError::Truncated(_)));
}
