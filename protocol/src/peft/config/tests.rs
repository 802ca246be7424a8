use serde_json::json;

use super::super::samples::config_file;
use super::*;

fn refusals(changes: &Value) -> Vec<(ProblemCode, String)> {
    let problems = LoraConfig::parse(&config_file(changes)).expect_err("the configuration is wrong");
    problems.listed.into_iter().map(|problem| (problem.code, problem.subject)).collect()
}

#[test]
fn the_smallest_valid_file_has_the_defaults_of_peft() {
    let config = LoraConfig::parse(br#"{"peft_type": "LORA"}"#).unwrap();
    assert_eq!((config.rank, config.alpha, config.base_model.as_deref()), (8, 8.0, None));
    assert!(config.targets("model.layers.0.self_attn.q_proj") && config.targets("model.layers.0.self_attn.v_proj"));
    assert!(!config.targets("model.layers.0.self_attn.k_proj") && !config.targets("lm_head"));
    assert_eq!(config.scale_of("model.layers.0.self_attn.q_proj"), 1.0);
}

#[test]
fn harmless_fields_are_accepted_whatever_they_say() {
    let changes = json!({
        "auto_mapping": {"base_model_class": "LlamaForCausalLM"}, "eva_config": {"rho": 2}, "peft_version": "9",
        "revision": "main", "inference_mode": false, "qalora_group_size": 32, "init_lora_weights": "gaussian",
        "megatron_config": {"a": 1}, "corda_config": {"a": 1}, "loftq_config": {"loftq_bits": 4}, "lora_dropout": 0.5,
        "lora_ga_config": {"a": 1}, "ensure_weight_tying": true,
    });
    LoraConfig::parse(&config_file(&changes)).unwrap();
}

#[test]
fn what_changes_the_answers_and_is_not_supported_is_refused_by_name() {
    for (field, value) in [
        ("bias", json!("all")),
        ("bias", json!("lora_only")),
        ("lora_bias", json!(true)),
        ("fan_in_fan_out", json!(true)),
        ("task_type", json!("SEQ_CLS")),
        ("init_lora_weights", json!("pissa")),
        ("init_lora_weights", json!("pissa_niter_16")),
        ("init_lora_weights", json!("olora")),
        ("init_lora_weights", json!("corda")),
        ("init_lora_weights", json!("lora_ga")),
        ("init_lora_weights", json!("loftq")),
        ("init_lora_weights", json!("something_new")),
        ("init_lora_weights", json!(3)),
        ("layer_replication", json!([[0, 2], [1, 2]])),
        ("trainable_token_indices", json!([1, 2])),
        ("target_parameters", json!(["mlp.experts"])),
        ("use_qalora", json!(true)),
        ("use_bdlora", json!({"nblocks": 2})),
        ("arrow_config", json!({"top_k": 3})),
        ("kasa_config", json!({"beta": 1})),
        ("velora_config", json!({"a": 1})),
        ("monteclora_config", json!({"a": 1})),
        ("modules_to_save", json!(["lm_head"])),
        ("modules_to_save", json!(["embed_tokens"])),
    ] {
        let found = refusals(&json!({ field: value.clone() }));
        assert_eq!(found, [(ProblemCode::UnsupportedOption, field.to_owned())], "{field}: {value}");
    }
}

#[test]
fn unknown_options_are_refused_when_set_and_only_then() {
    for value in [json!(null), json!(false), json!({}), json!([]), json!(0), json!("")] {
        LoraConfig::parse(&config_file(&json!({"use_new_variant": value}))).unwrap();
    }
    for value in [json!(true), json!({"a": null}), json!([0]), json!(1), json!("x")] {
        let found = refusals(&json!({"use_new_variant": value}));
        assert_eq!(found, [(ProblemCode::UnknownOption, "use_new_variant".to_owned())]);
    }
}

#[test]
fn other_peft_types_are_refused_by_name() {
    let problems = LoraConfig::parse(&config_file(&json!({"peft_type": "IA3"}))).unwrap_err();
    assert_eq!(problems.to_string(), "peft_type: expected \"LORA\", given the text \"IA3\"");
    assert!(LoraConfig::parse(b"{}").unwrap_err().has(ProblemCode::UnsupportedPeftType));
}

#[test]
fn wrong_types_and_ranges_are_refused_by_field() {
    for (field, value) in [
        ("r", json!(0)),
        ("r", json!(257)),
        ("r", json!(8.5)),
        ("r", json!(true)),
        ("r", json!(-1)),
        ("lora_alpha", json!("16")),
        ("lora_dropout", json!([])),
        ("use_rslora", json!("yes")),
        ("use_dora", json!(1)),
        ("target_modules", json!(3)),
        ("target_modules", json!(["q_proj", 3])),
        ("target_modules", json!("(?|q).*")),
        ("exclude_modules", json!({"a": 1})),
        ("rank_pattern", json!({"q_proj": 0})),
        ("rank_pattern", json!({"q_proj": "8"})),
        ("rank_pattern", json!({"(": 8})),
        ("alpha_pattern", json!({"q_proj": null})),
        ("layers_to_transform", json!([0, -1])),
        ("layers_to_transform", json!("0")),
        ("layers_pattern", json!(["layers"])),
        ("modules_to_save", json!("norm")),
        ("base_model_name_or_path", json!(7)),
    ] {
        let found = refusals(&json!({ field: value.clone() }));
        assert_eq!(found, [(ProblemCode::FieldInvalid, field.to_owned())], "{field}: {value}");
    }
}

#[test]
fn a_layer_filter_needs_a_list_of_targets() {
    let found = refusals(&json!({"target_modules": ".*q_proj", "layers_to_transform": [0]}));
    assert_eq!(found, [(ProblemCode::FieldInvalid, "layers_to_transform".to_owned())]);
}

#[test]
fn repeated_keys_and_large_files_are_refused() {
    let repeated = br#"{"peft_type": "LORA", "r": 8, "r": 16}"#;
    assert!(LoraConfig::parse(repeated).unwrap_err().has(ProblemCode::DuplicateKey));
    let nested = br#"{"peft_type": "LORA", "rank_pattern": {"q_proj": 1, "q_proj": 2}}"#;
    assert!(LoraConfig::parse(nested).unwrap_err().has(ProblemCode::DuplicateKey));
    let mut large = config_file(&json!({}));
    large.resize(MAX_CONFIG_BYTES + 1, b' ');
    assert!(LoraConfig::parse(&large).unwrap_err().has(ProblemCode::TooLarge));
}

#[test]
fn a_configuration_full_of_costly_patterns_is_refused_in_good_time() {
    let table: serde_json::Map<_, _> = (0..1500).map(|index| (format!("(?:\\w{{9}}){{9}}{index}"), json!(4))).collect();
    assert_eq!(refusals(&json!({"rank_pattern": table})), [(ProblemCode::FieldInvalid, "rank_pattern".to_owned())]);
}

#[test]
fn activation_goes_with_plain_pairs_only() {
    let parse = |extra: Value| {
        let mut config = json!({"peft_type": "LORA", "alora_invocation_tokens": [5, 7]});
        config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        LoraConfig::parse(config.to_string().as_bytes())
    };
    assert_eq!(parse(json!({})).unwrap().invocation_tokens, [5, 7]);
    assert_eq!(parse(json!({"alora_invocation_tokens": []})).unwrap().invocation_tokens, [0; 0]);
    for wrong in [json!("user"), json!([-1]), json!(["a"]), json!(vec![1; 65])] {
        assert!(parse(json!({ "alora_invocation_tokens": wrong })).is_err());
    }
    for (extra, subject, reason) in [
        (json!({"use_dora": true}), "use_dora", "one variant"),
        (json!({"init_lora_weights": "mica"}), "init_lora_weights", "one variant"),
        (json!({"modules_to_save": ["norm"]}), "modules_to_save", "begin to act within a prompt"),
        (json!({"lora_bias": true}), "lora_bias", "bias"),
        (json!({"use_qalora": true}), "use_qalora", "QA-LoRA"),
        (json!({"task_type": "SEQ_CLS"}), "task_type", "causal"),
    ] {
        let problems = parse(extra.clone()).expect_err("PEFT cannot combine them, or we cannot");
        let [problem] = &problems.listed[..] else { panic!("{extra}: {problems}") };
        assert_eq!((problem.code, problem.subject.as_str()), (ProblemCode::UnsupportedOption, subject));
        assert!(problem.message.contains(reason), "{problem}");
    }
    // An empty list is plain LoRA in PEFT too, and may go with anything that plain LoRA goes with.
    assert!(parse(json!({"alora_invocation_tokens": [], "use_dora": true, "modules_to_save": ["norm"]})).is_ok());
    assert!(parse(json!({"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"q_proj": 2}, "use_rslora": true})).is_ok());
}

#[test]
fn mica_is_plain_lora_once_trained_and_goes_with_no_other_variant() {
    LoraConfig::parse(&config_file(&json!({"init_lora_weights": "mica"}))).unwrap();
    let found = refusals(&json!({"init_lora_weights": "mica", "use_dora": true}));
    assert_eq!(found, [(ProblemCode::UnsupportedOption, "init_lora_weights".to_owned())]);
}

/// What PEFT 0.21.2 writes for a `LoraConfig` of defaults: every field of the dataclass and of its parents but
/// `runtime_config`, which it leaves out. To be compared with each new release: a field that is missing here is refused
/// when set, as unknown.
fn defaults_of_peft() -> Value {
    json!({
        "alora_invocation_tokens": null, "alpha_pattern": {}, "arrow_config": null, "auto_mapping": null,
        "base_model_name_or_path": "", "bias": "none", "corda_config": null, "ensure_weight_tying": false,
        "eva_config": null, "exclude_modules": null, "fan_in_fan_out": false, "inference_mode": true,
        "init_lora_weights": true, "kasa_config": null, "layer_replication": null, "layers_pattern": null,
        "layers_to_transform": null, "loftq_config": {}, "lora_alpha": 8, "lora_bias": false, "lora_dropout": 0.0,
        "lora_ga_config": null, "megatron_config": null, "megatron_core": "megatron.core", "modules_to_save": null,
        "monteclora_config": null, "peft_type": "LORA", "peft_version": "0.21.2", "qalora_group_size": 16, "r": 8,
        "rank_pattern": {}, "revision": null, "target_modules": ["q_proj", "v_proj"], "target_parameters": null,
        "task_type": null, "trainable_token_indices": null, "use_bdlora": null, "use_dora": false,
        "use_qalora": false, "use_rslora": false, "velora_config": null,
    })
}

#[test]
fn every_field_of_peft_is_known_by_name_and_its_defaults_are_accepted() {
    let defaults = defaults_of_peft();
    let unknown: Vec<_> =
        defaults.as_object().unwrap().keys().filter(|name| meaning(name) == Meaning::Unknown).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let config = LoraConfig::parse(defaults.to_string().as_bytes()).unwrap();
    assert!(config.targets("model.layers.0.self_attn.q_proj") && config.invocation_tokens.is_empty());
}
