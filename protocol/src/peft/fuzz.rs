//! No bytes whatever make the checks panic, and what passes is consistent.

use proptest::prelude::*;
use serde_json::json;

use super::modules::Module;
use super::pattern::Pattern;
use super::samples::{config_file, pairs, raw_file, small_base, weights_file};
use super::{AdapterPlan, LoraConfig, TensorHeader, WeightsIntake};

/// Every byte string near a valid file: some bytes changed, some cut off or put in.
fn mutated(valid: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let len = valid.len();
    let edit = (0..len, any::<u8>(), 0u8..4);
    (prop::collection::vec(edit, 1..6), 0..=len).prop_map(move |(edits, keep)| {
        let mut bytes = valid.clone();
        for (index, byte, kind) in edits {
            let index = index.min(bytes.len() - 1);
            match kind {
                0 => bytes[index] = byte,
                1 => bytes.insert(index, byte),
                2 if bytes.len() > 1 => drop(bytes.remove(index)),
                _ => bytes[index] = b"{}[]\",:0919-.eE"[usize::from(byte) % 15],
            }
        }
        if keep % 4 == 0 {
            bytes.truncate(keep);
        }
        bytes
    })
}

fn valid_weights() -> Vec<u8> {
    weights_file(&pairs(&[Module::Q, Module::V], 4))
}

fn valid_config() -> Vec<u8> {
    config_file(&json!({
        "rank_pattern": {"layers\\.0\\..*q_proj": 4, "^lm_head": 2}, "alpha_pattern": {"v_proj": 3.5},
        "layers_to_transform": [0, 1], "layers_pattern": "layers", "modules_to_save": null,
        "exclude_modules": "nothing|.*\\.[ko]_proj"
    }))
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(config in prop::collection::vec(any::<u8>(), 0..200),
                                   weights in prop::collection::vec(any::<u8>(), 0..200)) {
        let base = small_base();
        prop_assert!(AdapterPlan::check(&config, &weights, weights.len() as u64, &base).is_err());
    }

    #[test]
    fn a_header_that_passes_describes_the_file_without_holes(text in "\\PC{0,80}", data_len in 0usize..64) {
        let file = raw_file(&format!("{{{text}}}"), &vec![0; data_len]);
        if let Ok(header) = TensorHeader::parse(&file) {
            let sum: u64 = header.tensors.iter().map(|tensor| tensor.range.end - tensor.range.start).sum();
            prop_assert_eq!(sum, header.data_len);
        }
    }

    #[test]
    fn mutated_weights_never_panic_and_stay_in_bounds(file in mutated(valid_weights())) {
        let base = small_base();
        if let Ok(plan) = AdapterPlan::check(&valid_config(), &file, file.len() as u64, &base) {
            let data = &file[usize::try_from(plan.data_start).unwrap()..];
            for pair in &plan.pairs {
                prop_assert_eq!(pair.a.bytes(data).unwrap().len(), pair.a.num_elements() * pair.a.dtype.size_bytes());
                prop_assert_eq!(pair.b.shape[1], pair.rank);
            }
        }
    }

    #[test]
    fn mutated_configs_never_panic(config in mutated(valid_config())) {
        if let Ok(config) = LoraConfig::parse(&config) {
            prop_assert!((1..=super::MAX_RANK).contains(&config.rank_of("model.layers.0.self_attn.q_proj")));
        }
        let weights = valid_weights();
        let _ = AdapterPlan::check(&config, &weights, weights.len() as u64, &small_base());
    }

    #[test]
    fn an_intake_in_pieces_says_what_the_whole_check_says(file in mutated(valid_weights()), len in 1usize..600) {
        let base = small_base();
        let whole = AdapterPlan::check(&valid_config(), &file, file.len() as u64, &base);
        let mut intake = WeightsIntake::new();
        let early = file.chunks(len).try_for_each(|piece| intake.push(piece));
        match early.and_then(|()| intake.finish(&valid_config(), &base)) {
            Ok(plan) => prop_assert_eq!(Ok(plan), whole),
            // The intake also looks at the numbers, and may stop at the header before it has seen the configuration.
            Err(problems) => prop_assert!(whole.is_err() || problems.has(super::ProblemCode::NotFinite)),
        }
    }

    #[test]
    fn no_pattern_panics_or_runs_without_end(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..12)) {
        let path = "model.layers.10.self_attn.q_proj";
        for pattern in [Pattern::full, Pattern::suffix, Pattern::layer] {
            if let Ok(pattern) = pattern("field", &pieces.concat()) {
                let is_bounded = pattern.check_steps([path]).is_ok();
                prop_assert!(is_bounded || !pattern.matches(path));
                let _ = pattern.number(path);
            }
        }
    }
}

/// What regular expressions are made of, whole and in parts.
const PIECES: &[&str] = &[
    "(", ")", "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?P<n>", "(?P=n)", "(?(1)", "(?i)", "(?#", "[", "]", "[^",
    "|", "*", "+", "?", "++", "{2,}", "{,3}", "{9}", "{99}", "^", "$", ".", "\\", "\\d", "\\b", "\\1", "\\Z", "\\.",
    "a", "q_proj", "model", "layers", "é", "(.*)*", "(?:a|a)+", "\\w+",
];

#[test]
fn any_bytes_of_a_peft_config_are_read_or_refused() {
    let (weights, base) = (valid_weights(), small_base());
    souk_testkit::fuzz("peft_config", |bytes| {
        if let Ok(config) = LoraConfig::parse(bytes) {
            assert!((1..=super::MAX_RANK).contains(&config.rank_of("model.layers.0.self_attn.q_proj")));
        }
        match AdapterPlan::check(bytes, &weights, weights.len() as u64, &base) {
            Ok(plan) => format!("{} pairs", plan.pairs.len()),
            Err(problems) => problems.to_string(),
        }
    });
}

#[test]
fn any_bytes_of_a_safetensors_file_are_read_or_refused() {
    let (config, base) = (valid_config(), small_base());
    souk_testkit::fuzz("adapter_weights", |bytes| {
        // Headers alone fit into a kept input; what they speak of is zeros.
        let file = [bytes, &[0; 4096]].concat();
        match AdapterPlan::check(&config, &file, file.len() as u64, &base) {
            Ok(plan) => {
                let data = &file[usize::try_from(plan.data_start).unwrap()..];
                assert!(plan.pairs.iter().all(|pair| pair.a.bytes(data).is_some() && pair.b.bytes(data).is_some()));
                format!("{} pairs", plan.pairs.len())
            }
            Err(problems) => problems.to_string(),
        }
    });
}

#[test]
fn any_text_of_a_pattern_is_read_or_refused_and_ends() {
    let path = "model.layers.10.self_attn.q_proj";
    souk_testkit::fuzz("peft_pattern", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let answers = [Pattern::full, Pattern::suffix, Pattern::layer].map(|pattern| match pattern("field", &text) {
            Ok(pattern) => {
                let is_bounded = pattern.check_steps([path]).is_ok();
                assert!(is_bounded || !pattern.matches(path));
                format!("{is_bounded} {} {:?}", pattern.matches(path), pattern.number(path))
            }
            Err(problem) => format!("{problem:?}"),
        });
        answers.concat()
    });
}
