use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::samples::{SampleTensor, config_file, pairs, small_base, weights_file};
use super::super::{BaseClaim, MeasuredIntake, Problems};
use super::*;

fn effect_of(changes: &Value, tensors: &[SampleTensor], piece_len: usize) -> Result<Effect, Problems> {
    let mut intake = MeasuredIntake::new();
    weights_file(tensors).chunks(piece_len).for_each(|piece| intake.push(piece).unwrap());
    intake.judge(&config_file(changes), &small_base(), BaseClaim::Unstated).map(|(_, effect)| effect)
}

fn effect(changes: &Value, tensors: &[SampleTensor]) -> Effect {
    effect_of(changes, tensors, 4096).unwrap()
}

fn q_and_v() -> Vec<SampleTensor> {
    pairs(&[Module::Q, Module::V], 4)
}

fn fill(tensor: &mut SampleTensor, value: f32) {
    (0..tensor.shape.iter().product()).for_each(|index| tensor.set(index, value));
}

fn num_dead(effect: &Effect) -> usize {
    effect.dead().count()
}

#[test]
fn the_norm_of_a_pair_is_that_of_its_scaled_product() {
    // A is all 0.5 and B all -0.5, so each element of B A is -1 at rank 4, and the scale is 2.
    let effect = effect(&json!({}), &q_and_v());
    for pair in &effect.pairs {
        let num_elements = pair.site.module.out_features(&small_base().shape) * 12;
        assert!((pair.norm - 2.0 * (num_elements as f64).sqrt()).abs() < 1e-9, "{pair:?}");
        assert!(!pair.is_dead && pair.rank == 4);
    }
    let by_module = effect.by_module();
    assert_eq!(
        by_module.iter().map(|one| (one.module, one.num_pairs)).collect::<Vec<_>>(),
        [(Module::Q, 2), (Module::V, 2)]
    );
    assert_eq!((by_module[0].ranks, by_module[0].num_dead), ((4, 4), 0));
    assert!(by_module[0].norms.0 > by_module[1].norms.2, "v is narrower than q");
}

#[test]
fn whatever_makes_the_product_vanish_makes_the_pair_dead() {
    let zero = |part: &'static str| {
        move |tensors: &mut [SampleTensor]| {
            tensors.iter_mut().filter(|tensor| tensor.name.contains(part)).for_each(|tensor| fill(tensor, 0.0));
        }
    };
    let faint =
        |value: f32| move |tensors: &mut [SampleTensor]| tensors.iter_mut().for_each(|tensor| fill(tensor, value));
    let apart = |tensors: &mut [SampleTensor]| {
        // A has its first row alone, B all columns but the first.
        for tensor in tensors {
            let (height, width) = (tensor.shape[0], tensor.shape[1]);
            for index in 0..height * width {
                let is_first = if tensor.name.contains("lora_A") { index / width == 0 } else { index % width == 0 };
                if is_first != tensor.name.contains("lora_A") {
                    tensor.set(index, 0.0);
                }
            }
        }
    };
    let cancelling = |tensors: &mut [SampleTensor]| {
        for tensor in tensors.iter_mut().filter(|tensor| tensor.name.contains("lora_B")) {
            (0..tensor.shape[0] * 4).for_each(|index| tensor.set(index, if index % 2 == 0 { 0.3 } else { -0.3 }));
        }
    };
    let ways: [(&str, Value, &dyn Fn(&mut [SampleTensor])); 9] = [
        ("B is zero", json!({}), &zero("lora_B")),
        ("A is zero", json!({}), &zero("lora_A")),
        ("alpha is zero", json!({"lora_alpha": 0}), &|_| {}),
        ("alpha is zero by pattern", json!({"alpha_pattern": {".*": 0}}), &|_| {}),
        ("alpha is tiny", json!({"lora_alpha": 1e-30}), &|_| {}),
        ("the product is below every number", json!({}), &faint(1e-30)),
        ("the numbers are the smallest of all", json!({}), &faint(f32::from_bits(0x0001_0000))),
        ("the halves do not meet", json!({}), &apart),
        ("the columns cancel", json!({}), &cancelling),
    ];
    for (way, changes, change) in ways {
        let mut tensors = q_and_v();
        change(&mut tensors);
        let effect = effect(&changes, &tensors);
        assert!(effect.is_none() && num_dead(&effect) == 4, "{way}: {effect:?}");
    }
}

#[test]
fn half_precision_loses_what_brain_floats_keep() {
    let with = |dtype: TensorType| {
        let mut tensors = q_and_v();
        for tensor in &mut tensors {
            let value = if tensor.name.contains("lora_B") { 6e-8 } else { 1000.0 };
            *tensor = SampleTensor::new(&tensor.name.clone(), dtype, &tensor.shape.clone(), value);
        }
        effect(&json!({"lora_alpha": 1}), &tensors)
    };
    // A quarter of 2^-24 rounds to zero.
    assert!(with(TensorType::F16).is_none());
    assert_eq!(num_dead(&with(TensorType::BF16)), 0);
    assert_eq!(num_dead(&with(TensorType::F32)), 0);
}

#[test]
fn small_but_real_changes_live() {
    let mut tensors = q_and_v();
    tensors.iter_mut().filter(|tensor| tensor.name.contains("lora_B")).for_each(|tensor| fill(tensor, 1e-6));
    assert_eq!(num_dead(&effect(&json!({}), &tensors)), 0);
    assert_eq!(num_dead(&effect(&json!({"lora_alpha": -8}), &q_and_v())), 0);
}

#[test]
fn one_dead_pair_among_living_ones_is_named() {
    let mut tensors = q_and_v();
    fill(&mut tensors[1], 0.0);
    let effect = effect(&json!({}), &tensors);
    assert_eq!(effect.dead().map(|site| site.to_string()).collect::<Vec<_>>(), ["model.layers.0.self_attn.q_proj"]);
    assert!(!effect.is_none());
    assert_eq!(effect.by_module()[0].num_dead, 1);
}

#[test]
fn norms_and_magnitudes_are_told_apart_from_pairs() {
    let norm = [SampleTensor::f32("base_model.model.model.norm.weight", &[12], 1.0)];
    let norms_only = effect(&json!({"target_modules": [], "modules_to_save": ["norm"]}), &norm);
    assert!(norms_only.num_norms == 1 && !norms_only.is_none());
    let mut tensors = q_and_v();
    for (layer, module, height) in [(0, "q", 16), (0, "v", 8), (1, "q", 16), (1, "v", 8)] {
        let name = format!("base_model.model.model.layers.{layer}.self_attn.{module}_proj.lora_magnitude_vector");
        tensors.push(SampleTensor::f32(&name, &[height], 1.0));
    }
    tensors.iter_mut().filter(|tensor| tensor.name.contains("lora_B")).for_each(|tensor| fill(tensor, 0.0));
    let dora = effect(&json!({"use_dora": true}), &tensors);
    assert!(dora.is_none() && dora.has_magnitudes);
}

#[test]
fn the_order_of_the_halves_does_not_matter() {
    let sorted = effect(&json!({}), &q_and_v());
    let mut tensors = q_and_v();
    tensors.sort_by_key(|tensor| (!tensor.name.contains("lora_B"), tensor.name.clone()));
    assert_eq!(effect(&json!({}), &tensors), sorted);
}

proptest! {
    #[test]
    fn the_norm_is_the_products_however_the_pieces_are_cut(
        numbers in prop::collection::vec(-2.0f32..2.0, 200), piece_len in 1usize..300
    ) {
        let mut tensors = q_and_v();
        let mut numbers = numbers.into_iter().cycle();
        for tensor in &mut tensors {
            *tensor = SampleTensor::f32(&tensor.name.clone(), &tensor.shape.clone(), 0.0);
            (0..tensor.shape.iter().product()).for_each(|index| tensor.set(index, numbers.next().unwrap()));
        }
        let effect = effect_of(&json!({}), &tensors, piece_len).unwrap();
        let read = |tensor: &SampleTensor| -> Vec<f64> {
            tensor.data.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
        };
        for (pair, halves) in effect.pairs.iter().zip(tensors.chunks_exact(2)) {
            let (a, b) = (read(&halves[0]), read(&halves[1]));
            let mut square = 0.0;
            for row in b.chunks_exact(4) {
                for column in 0..12 {
                    let element: f64 = (0..4).map(|inner| row[inner] * a[inner * 12 + column]).sum();
                    square += 4.0 * element * element;
                }
            }
            prop_assert!((pair.norm - square.sqrt()).abs() <= 1e-6 * square.sqrt().max(1.0), "{:?} {}", pair, square.sqrt());
        }
    }
}
