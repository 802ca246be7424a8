use serde_json::{Value, json};

use super::super::samples::{SampleTensor, config_file, pair, pairs, small_base, weights_file};
use super::*;
use crate::manifest::CONFIG_FILE;

const ATTENTION: [Module; 4] = [Module::Q, Module::K, Module::V, Module::O];

fn check_bytes(config: &[u8], tensors: &[SampleTensor]) -> Result<AdapterPlan, Problems> {
    let file = weights_file(tensors);
    AdapterPlan::check(config, &file, file.len() as u64, &small_base())
}

fn check(changes: &Value, tensors: &[SampleTensor]) -> Result<AdapterPlan, Problems> {
    check_bytes(&config_file(changes), tensors)
}

/// The problems as (code, subject), for adapters that must be refused.
fn refusals(changes: &Value, tensors: &[SampleTensor]) -> Vec<(ProblemCode, String)> {
    let problems = check(changes, tensors).expect_err("the adapter is wrong");
    problems.listed.into_iter().map(|problem| (problem.code, problem.subject)).collect()
}

fn q_and_v() -> Vec<SampleTensor> {
    pairs(&[Module::Q, Module::V], 4)
}

fn site(layer: usize, module: Module) -> ModuleSite {
    ModuleSite { layer: Some(layer), module }
}

#[test]
fn a_plain_adapter_has_a_pair_for_each_target_with_the_rank_and_scale() {
    let plan = check(&json!({}), &q_and_v()).unwrap();
    let sites: Vec<_> = plan.pairs.iter().map(|pair| pair.site).collect();
    assert_eq!(sites, [site(0, Module::Q), site(0, Module::V), site(1, Module::Q), site(1, Module::V)]);
    assert!(plan.pairs.iter().all(|pair| pair.rank == 4 && pair.scale == 2.0 && pair.magnitude.is_none()));
    assert!(plan.norms.is_empty());
}

#[test]
fn rslora_divides_by_the_root_of_the_rank() {
    let plan = check(&json!({"use_rslora": true}), &q_and_v()).unwrap();
    assert_eq!(plan.pairs[0].scale, 4.0);
}

#[test]
fn the_first_pattern_that_matches_gives_rank_and_alpha() {
    let mut tensors = pairs(&[Module::V], 4);
    tensors.extend(pair(site(0, Module::Q), 2));
    tensors.extend(pair(site(1, Module::Q), 3));
    let changes = json!({
        "rank_pattern": {"layers\\.0\\.self_attn\\.q_proj": 2, "q_proj": 3, ".*": 4},
        "alpha_pattern": {"^model\\.layers\\.1\\..*": 6.5, "v_proj": 1},
    });
    let plan = check(&changes, &tensors).unwrap();
    let found: Vec<_> = plan.pairs.iter().map(|pair| (pair.site, pair.rank, pair.scale)).collect();
    assert_eq!(
        found,
        [
            (site(0, Module::Q), 2, 4.0),
            (site(0, Module::V), 4, 0.25),
            (site(1, Module::Q), 3, 6.5 / 3.0),
            (site(1, Module::V), 4, 1.625),
        ]
    );
}

#[test]
fn every_way_to_name_targets_selects_the_same_modules_as_peft() {
    let all = pairs(&Module::OF_LAYER, 4);
    let layer_1 = || all.iter().filter(|tensor| tensor.name.contains("layers.1.")).cloned();
    let mut exact_and_layer_1: Vec<_> = pair(site(0, Module::Q), 4).into();
    exact_and_layer_1.extend(layer_1().filter(|tensor| tensor.name.contains("v_proj")));
    let mut with_head = q_and_v();
    with_head.extend(pair(ModuleSite { layer: None, module: Module::LmHead }, 4));
    for (changes, tensors) in [
        (json!({"target_modules": null}), q_and_v()),
        (json!({"target_modules": "all-linear"}), all.clone()),
        (
            json!({"target_modules": "ALL-linear", "exclude_modules": ["mlp.gate_proj", "up_proj", "down_proj"]}),
            pairs(&ATTENTION, 4),
        ),
        (json!({"target_modules": ".*self_attn\\.(q|v)_proj"}), q_and_v()),
        (
            json!({"target_modules": ["self_attn.q_proj", "model.layers.0.self_attn.v_proj", "model.layers.1.self_attn.v_proj", "c_attn"]}),
            q_and_v(),
        ),
        (json!({"target_modules": "all-linear", "exclude_modules": ".*(k_proj|o_proj|mlp\\..*)"}), q_and_v()),
        (json!({"target_modules": ["q_proj", "v_proj", "lm_head"]}), with_head),
        (
            json!({"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
                "layers_to_transform": 1}),
            layer_1().collect(),
        ),
        (
            json!({"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
                "layers_to_transform": [1], "layers_pattern": ["h", "layers"]}),
            layer_1().collect(),
        ),
        // A full path is not subject to the layer filter.
        (
            json!({"target_modules": ["model.layers.0.self_attn.q_proj", "v_proj"], "layers_to_transform": [1]}),
            exact_and_layer_1,
        ),
    ] {
        let plan = check(&changes, &tensors).unwrap_or_else(|problems| panic!("{changes}: {problems}"));
        assert_eq!(plan.pairs.len() * 2, tensors.len(), "{changes}");
    }
}

#[test]
fn dora_needs_a_magnitude_for_each_pair_and_takes_it_in_every_spelling() {
    let mut tensors = q_and_v();
    let add = |name: &str, shape: &[usize], tensors: &mut Vec<SampleTensor>| {
        tensors.push(SampleTensor::f32(&format!("base_model.model.model.layers.{name}"), shape, 1.0));
    };
    add("0.self_attn.q_proj.lora_magnitude_vector", &[16], &mut tensors);
    add("0.self_attn.v_proj.lora_magnitude_vector.weight", &[8, 1], &mut tensors);
    add("1.self_attn.q_proj.lora_magnitude_vector", &[1, 16], &mut tensors);
    let dora = json!({"use_dora": true});
    assert_eq!(refusals(&dora, &tensors), [(ProblemCode::MissingTensor, "model.layers.1.self_attn.v_proj".to_owned())]);
    add("1.self_attn.v_proj.lora_magnitude_vector", &[8], &mut tensors);
    let plan = check(&dora, &tensors).unwrap();
    assert!(plan.pairs.iter().all(|pair| pair.magnitude.is_some()));
    let without = refusals(&json!({}), &tensors);
    assert_eq!(without.len(), 4);
    assert!(
        without.iter().all(|(code, subject)| *code == ProblemCode::UnexpectedTensor && subject.contains("magnitude"))
    );
}

#[test]
fn norms_may_be_saved_in_full() {
    let mut tensors = q_and_v();
    tensors.push(SampleTensor::f32("base_model.model.model.norm.weight", &[12], 1.0));
    let norm_only = json!({"modules_to_save": ["norm"]});
    assert_eq!(check(&norm_only, &tensors).unwrap().norms[0].site, NormSite::Final);
    // PEFT matches by the end of the path, so this list takes all norms along.
    tensors.push(SampleTensor::bf16("base_model.model.model.layers.0.input_layernorm.weight", &[12], 1.0));
    assert_eq!(check(&norm_only, &tensors).unwrap().norms.len(), 2);

    let one_of_two = refusals(&json!({"modules_to_save": ["norm", "input_layernorm"]}), &tensors);
    assert_eq!(one_of_two, [(ProblemCode::MissingTensor, "model.layers.1.input_layernorm".to_owned())]);
    let full_path = json!({"modules_to_save": ["model.norm", "model.layers.0.input_layernorm"]});
    assert_eq!(check(&full_path, &tensors).unwrap().norms.len(), 2);
    assert_eq!(refusals(&json!({}), &tensors).len(), 2);
    let (code, subject) = &refusals(&json!({"modules_to_save": ["layers.7.input_layernorm"]}), &q_and_v())[0];
    assert_eq!((*code, subject.as_str()), (ProblemCode::FieldInvalid, "modules_to_save"));
}

#[test]
fn only_norms_without_any_pair_are_an_adapter() {
    let tensors = [SampleTensor::f32("base_model.model.model.norm.weight", &[12], 1.0)];
    let plan = check(&json!({"target_modules": [], "modules_to_save": ["norm"]}), &tensors).unwrap();
    assert!(plan.pairs.is_empty() && plan.norms.len() == 1);
}

#[test]
fn the_base_model_is_compared_by_the_last_segment_without_case() {
    for name in [
        json!(null),
        json!(""),
        json!("tiny"),
        json!("mirror/TINY-instruct"),
        json!("/home/me/Tiny/"),
        json!("C:\\models\\tiny"),
    ] {
        assert!(check(&json!({"base_model_name_or_path": name}), &q_and_v()).is_ok(), "{name}");
    }
    let problems = check(&json!({"base_model_name_or_path": "Org/Other-7B"}), &q_and_v()).unwrap_err();
    assert_eq!(problems.listed.len(), 1);
    assert_eq!(problems.listed[0].code, ProblemCode::WrongBase);
    let text = problems.to_string();
    assert!(text.contains("Org/Other-7B") && text.contains("`tiny` (Org/Tiny-Instruct)"), "{text}");
}

#[test]
fn what_says_which_base_it_is_decides_about_names_that_say_nothing() {
    let judge = |name: &str, claim| {
        let (config, file) = (config_file(&json!({"base_model_name_or_path": name})), weights_file(&q_and_v()));
        let checked = AdapterPlan::check_claimed(&config, &file, file.len() as u64, &small_base(), claim);
        checked.map_err(|problems| problems.listed[0].code)
    };
    let (silent, other, own) = ("/opt/ml/input/model", "org/other-7b-gptq", "unsloth/tiny-instruct-bnb-4bit");
    for (name, claim, expected) in [
        (silent, BaseClaim::Unstated, Some(ProblemCode::BaseNotNamed)),
        (silent, BaseClaim::Stated("Org/Tiny-Instruct"), None),
        (silent, BaseClaim::Stated("gpt2"), Some(ProblemCode::WrongBase)),
        (silent, BaseClaim::Settled, None),
        (other, BaseClaim::Unstated, Some(ProblemCode::WrongBase)),
        (other, BaseClaim::Stated("tiny"), Some(ProblemCode::WrongBase)),
        (other, BaseClaim::Settled, Some(ProblemCode::WrongBase)),
        (own, BaseClaim::Unstated, None),
        (own, BaseClaim::Stated("tiny"), None),
        ("   ", BaseClaim::Unstated, None),
    ] {
        assert_eq!(judge(name, claim).err(), expected, "{name} {claim:?}");
    }
}

#[test]
fn a_pattern_that_takes_too_many_steps_is_the_only_problem_that_it_makes() {
    let found = refusals(&json!({"target_modules": "(?=model)(?:(?:[a-z.]+)+)+\\d\\d\\d"}), &q_and_v());
    assert_eq!(found, [(ProblemCode::FieldInvalid, "target_modules".to_owned())]);
    let look_behind = json!({"target_modules": ".*(?<=self_attn\\.)[qv]_proj", "exclude_modules": "(?!x)lm_.*"});
    assert_eq!(check(&look_behind, &q_and_v()).unwrap().pairs.len(), 4);
    let table: serde_json::Map<_, _> = (0..5).map(|index| (format!("(?=x)q{index}"), json!(4))).collect();
    let found = refusals(&json!({"rank_pattern": table}), &q_and_v());
    assert_eq!(found, [(ProblemCode::TooLarge, CONFIG_FILE.to_owned())]);
}

#[test]
fn shapes_are_compared_with_the_base_model() {
    let mut tensors = q_and_v();
    tensors[0].shape = vec![3, 16];
    tensors[3].shape = vec![4, 8];
    let found = refusals(&json!({}), &tensors);
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|(code, _)| *code == ProblemCode::WrongShape));
    let text = check(&json!({}), &tensors).unwrap_err().to_string();
    assert!(text.contains("expected the shape [rank, 12], given [3, 16]"), "{text}");
}

#[test]
fn ranks_must_agree_within_the_pair_and_with_the_configuration() {
    let mut halves = q_and_v();
    halves[1] = SampleTensor::bf16(&halves[1].name.clone(), &[16, 5], 1.0);
    assert_eq!(refusals(&json!({}), &halves)[0].0, ProblemCode::RankMismatch);
    let found = refusals(&json!({"r": 8}), &q_and_v());
    assert_eq!(found.len(), 4);
    assert!(found.iter().all(|(code, _)| *code == ProblemCode::RankMismatch));
    let high: Vec<_> = pair(site(0, Module::Q), 257).into();
    assert!(
        refusals(&json!({"target_modules": ["model.layers.0.self_attn.q_proj"]}), &high)
            .contains(&(ProblemCode::RankRange, high[0].name.clone()))
    );
    let empty: Vec<_> = pair(site(0, Module::Q), 0).into();
    assert!(
        refusals(&json!({"target_modules": ["model.layers.0.self_attn.q_proj"]}), &empty)
            .iter()
            .any(|(code, _)| *code == ProblemCode::RankRange)
    );
}

#[test]
fn pairs_must_be_complete_and_meant() {
    let mut tensors = q_and_v();
    tensors.remove(3);
    assert_eq!(
        refusals(&json!({}), &tensors),
        [(ProblemCode::MissingTensor, "model.layers.0.self_attn.v_proj".to_owned())]
    );
    let missing = refusals(&json!({"target_modules": ["q_proj", "v_proj", "o_proj"]}), &q_and_v());
    assert_eq!(missing.len(), 2);
    assert_eq!(missing[0], (ProblemCode::MissingTensor, "model.layers.0.self_attn.o_proj".to_owned()));
    let extra = refusals(&json!({"target_modules": ["q_proj"]}), &q_and_v());
    assert_eq!(extra[1], (ProblemCode::UnexpectedTensor, "model.layers.1.self_attn.v_proj".to_owned()));
}

#[test]
fn the_adapter_name_in_tensor_names_is_accepted_if_it_is_always_the_same() {
    let mut tensors = q_and_v();
    for tensor in &mut tensors {
        tensor.name = tensor.name.replace(".weight", ".default.weight");
    }
    let plain = check(&json!({}), &q_and_v()).unwrap();
    assert_eq!(check(&json!({}), &tensors).unwrap().pairs.len(), plain.pairs.len());
    tensors.extend(q_and_v());
    let found = refusals(&json!({}), &tensors);
    assert_eq!(found.len(), 8 + 1);
    assert!(found.iter().all(|(code, _)| *code == ProblemCode::UnexpectedTensor));
}

#[test]
fn layers_that_the_base_does_not_have_are_refused() {
    let mut tensors = q_and_v();
    tensors.extend(pair(site(2, Module::Q), 4));
    let found = refusals(&json!({"layers_to_transform": [0, 1, 9]}), &tensors);
    assert_eq!(found.iter().filter(|(code, _)| *code == ProblemCode::LayerOutOfRange).count(), 3);
}

#[test]
fn an_adapter_without_effect_is_refused() {
    assert_eq!(
        refusals(&json!({"target_modules": ["c_attn"]}), &[]),
        [(ProblemCode::NoEffect, CONFIG_FILE.to_owned()), (ProblemCode::NoEffect, WEIGHTS_FILE.to_owned())]
    );
}

#[test]
fn embeddings_and_tied_heads_are_refused_by_name() {
    let found = refusals(&json!({"target_modules": ["q_proj", "v_proj", "embed_tokens"]}), &q_and_v());
    assert_eq!(found, [(ProblemCode::UnsupportedOption, "target_modules".to_owned())]);
    let mut tensors = q_and_v();
    tensors.extend(pair(ModuleSite { layer: None, module: Module::LmHead }, 4));
    let tied = json!({"target_modules": ["q_proj", "v_proj", "lm_head"], "ensure_weight_tying": true});
    assert_eq!(refusals(&tied, &tensors), [(ProblemCode::UnsupportedOption, "ensure_weight_tying".to_owned())]);
    assert!(check(&json!({"ensure_weight_tying": true}), &q_and_v()).is_ok());
}

#[test]
fn the_frozen_head_that_peft_saves_with_a_pair_on_it_is_no_problem_unless_its_size_is_another() {
    let mut tensors = q_and_v();
    tensors.extend(pair(ModuleSite { layer: None, module: Module::LmHead }, 4));
    tensors.push(SampleTensor::bf16("base_model.model.lm_head.base_layer.weight", &[32, 12], 1.0));
    let with_head = json!({"target_modules": ["q_proj", "v_proj", "lm_head"]});
    let plan = check(&with_head, &tensors).unwrap();
    assert_eq!((plan.pairs.len(), plan.head_copy.unwrap().shape), (5, vec![32, 12]));
    let mut live = tensors.clone();
    live.iter_mut().for_each(|tensor| tensor.name = tensor.name.replace("lora_A", "lora_A.default"));
    live.iter_mut().for_each(|tensor| tensor.name = tensor.name.replace("lora_B", "lora_B.default"));
    assert!(check(&with_head, &live).is_ok());
    tensors.pop();
    assert!(check(&with_head, &tensors).unwrap().head_copy.is_none());
    tensors.push(SampleTensor::bf16("base_model.model.lm_head.base_layer.weight", &[33, 12], 1.0));
    assert_eq!(refusals(&with_head, &tensors)[0].0, ProblemCode::WrongShape);
    let found = refusals(&json!({}), &[&q_and_v()[..], &tensors[tensors.len() - 1..]].concat());
    assert_eq!(found[0].0, ProblemCode::UnexpectedTensor);
}

#[test]
fn every_problem_of_both_files_is_found_at_once() {
    let mut tensors = q_and_v();
    tensors[0].shape = vec![4, 11, 1];
    tensors[0].data = vec![0; 88];
    tensors.push(SampleTensor::f32("base_model.model.lm_head.weight", &[1], 1.0));
    let changes = json!({"bias": "all", "use_qalora": true, "base_model_name_or_path": "gpt2", "new_thing": 3});
    let codes: Vec<_> = refusals(&changes, &tensors).into_iter().map(|(code, _)| code).collect();
    for code in [
        ProblemCode::UnsupportedOption,
        ProblemCode::UnknownOption,
        ProblemCode::WrongBase,
        ProblemCode::WrongShape,
        ProblemCode::UnexpectedTensor,
    ] {
        assert!(codes.contains(&code), "{code:?} in {codes:?}");
    }
    assert_eq!(codes.len(), 6);
}

#[test]
fn a_scale_that_overflows_is_refused_and_a_long_list_is_cut() {
    let found = refusals(&json!({"lora_alpha": 1e300}), &q_and_v());
    assert!(found.iter().all(|(code, subject)| *code == ProblemCode::FieldInvalid && subject == "lora_alpha"));
    let many: Vec<_> = (0..100).map(|index| SampleTensor::f32(&format!("x{index}"), &[1], 0.0)).collect();
    let problems = check(&json!({}), &many).unwrap_err();
    assert_eq!(problems.listed.len(), 64);
    assert_eq!(problems.num_unlisted, 100 + 4 + 1 - 64);
    assert!(problems.to_string().ends_with("and 41 more"));
}

#[test]
fn invocation_tokens_must_be_in_the_bases_vocabulary() {
    let plan = check(&json!({"alora_invocation_tokens": [31, 0]}), &q_and_v()).unwrap();
    assert_eq!(plan.invocation_tokens, [31, 0]);
    let found = refusals(&json!({"alora_invocation_tokens": [31, 32]}), &q_and_v());
    assert_eq!(found, [(ProblemCode::FieldInvalid, "alora_invocation_tokens".to_owned())]);
}
