use proptest::prelude::*;

use super::spellings::{ANOTHER, NO_MODEL, THE_SAME};
use super::*;
use crate::{Digest, LlamaShape, TokenizerSpec};

fn base(id: &str, aliases: &[&str]) -> BaseModel {
    BaseModel {
        id: id.to_owned(),
        digest: Digest::of(id.as_bytes()),
        aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
        shape: LlamaShape {
            num_layers: 1,
            hidden_size: 8,
            intermediate_size: 8,
            num_heads: 1,
            num_kv_heads: 1,
            head_dim: 8,
            vocab_size: 8,
            context_length: 8,
            rope_theta: 1.0,
            rms_norm_eps: 1e-5,
            tie_word_embeddings: true,
        },
        tokenizer: TokenizerSpec::TokenizerJson(String::new()),
        chat_template: None,
        eos_tokens: Vec::new(),
        bos_token: None,
        add_bos: false,
        pad_token: None,
    }
}

fn smollm2() -> BaseModel {
    base("smollm2-135m-instruct", &["HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2-135m-instruct"])
}

const SHA: &str = "12fd25f77366fa6b3b4b768ec3050bf629380bac";

#[test]
fn re_uploads_in_other_precisions_and_formats_are_the_same_model() {
    for name in [
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "unsloth/SmolLM2-135M-Instruct",
        "unsloth/SmolLM2-135M-Instruct-bnb-4bit",
        "unsloth/SmolLM2-135M-Instruct-unsloth-bnb-4bit",
        "unsloth/smollm2-135m-instruct-unsloth",
        "me/SmolLM2-135M-Instruct-4bit",
        "me/SmolLM2-135M-Instruct-8bit",
        "me/SmolLM2-135M-Instruct-bnb-8bit",
        "me/SmolLM2-135M-Instruct-nf4",
        "me/SmolLM2-135M-Instruct-bnb-nf4",
        "me/SmolLM2-135M-Instruct-GPTQ",
        "me/SmolLM2-135M-Instruct-GPTQ-Int4",
        "me/SmolLM2-135M-Instruct-GPTQ-Int8",
        "me/SmolLM2-135M-Instruct-gptq-4bit-128g-actorder",
        "me/SmolLM2-135M-Instruct-AWQ",
        "me/SmolLM2-135M-Instruct-AWQ-INT4",
        "bartowski/SmolLM2-135M-Instruct-GGUF",
        "bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M",
        "bartowski/HuggingFaceTB_SmolLM2-135M-Instruct-GGUF",
        "mradermacher/SmolLM2-135M-Instruct-i1-GGUF",
        "me/SmolLM2-135M-Instruct-Q4_K_M",
        "me/SmolLM2-135M-Instruct.Q8_0.gguf",
        "me/SmolLM2-135M-Instruct-IQ3_XXS",
        "me/SmolLM2-135M-Instruct-UD-Q4_K_XL",
        "me/SmolLM2-135M-Instruct-fp16",
        "me/SmolLM2-135M-Instruct-bf16",
        "me/SmolLM2-135M-Instruct-FP8",
        "RedHatAI/SmolLM2-135M-Instruct-FP8-Dynamic",
        "RedHatAI/SmolLM2-135M-Instruct-quantized.w8a8",
        "RedHatAI/SmolLM2-135M-Instruct-quantized.w4a16",
        "me/SmolLM2-135M-Instruct-W4A16",
        "me/SmolLM2-135M-Instruct-NVFP4",
        "mlx-community/SmolLM2-135M-Instruct-4bit",
        "mlx-community/SmolLM2-135M-Instruct-MLX",
        "mlx-community/SmolLM2-135M-Instruct-mlx-4Bit",
        "mlx-community/SmolLM2-135M-Instruct-4bit-DWQ",
        "mlc-ai/SmolLM2-135M-Instruct-q4f16_1-MLC",
        "me/SmolLM2-135M-Instruct-hf",
        "me/SmolLM2-135M-Instruct-HQQ",
        "me/SmolLM2-135M-Instruct-EXL2",
        "me/SmolLM2-135M-Instruct-4.0bpw-h6-exl2",
        "me/SmolLM2-135M-Instruct-3bpw",
        "me/SmolLM2-135M-Instruct-int4",
        "me/SmolLM2-135M-Instruct-INT8",
        "me/SmolLM2-135M-Instruct-bnb-4bit-smashed",
        "me/SmolLM2_135M_Instruct",
        "SmolLM2 135M Instruct",
    ] {
        assert!(BaseName::read(name).names(&smollm2()), "{name}: {:?}", BaseName::read(name));
        assert!(!BaseName::read(name).is_silent(), "{name}");
    }
}

#[test]
fn paths_addresses_and_revisions_lead_to_the_model() {
    let cached = "models--HuggingFaceTB--SmolLM2-135M-Instruct";
    for name in [
        " HuggingFaceTB/SmolLM2-135M-Instruct ".to_owned(),
        "HuggingFaceTB/SmolLM2-135M-Instruct/".to_owned(),
        "HuggingFaceTB/SmolLM2-135M-Instruct//\n".to_owned(),
        "\"HuggingFaceTB/SmolLM2-135M-Instruct\"".to_owned(),
        "HuggingFaceTB/SmolLM2-135M-Instruct@main".to_owned(),
        format!("HuggingFaceTB/SmolLM2-135M-Instruct@{SHA}"),
        "HuggingFaceTB/SmolLM2-135M-Instruct@refs/pr/3".to_owned(),
        "HuggingFaceTB/SmolLM2-135M-Instruct:main".to_owned(),
        format!("/root/.cache/huggingface/hub/{cached}/snapshots/{SHA}"),
        format!("/root/.cache/huggingface/hub/{cached}/snapshots/{SHA}/"),
        format!("/root/.cache/huggingface/hub/{cached}"),
        format!("{cached}/snapshots/main"),
        format!("C:\\Users\\me\\.cache\\huggingface\\hub\\{cached}\\snapshots\\{SHA}"),
        "/cache/models--unsloth--smollm2-135m-instruct-bnb-4bit/snapshots/0".to_owned(),
        "models--smollm2-135m-instruct".to_owned(),
        "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct".to_owned(),
        "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct/tree/main".to_owned(),
        format!("https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct/tree/{SHA}?show=1#files"),
        "https://hf.co/unsloth/SmolLM2-135M-Instruct-GGUF/resolve/main/SmolLM2-135M-Instruct-Q4_K_M.gguf".to_owned(),
        "huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct".to_owned(),
        "hf://HuggingFaceTB/SmolLM2-135M-Instruct@main".to_owned(),
        "s3://bucket/models/SmolLM2-135M-Instruct/".to_owned(),
        "file:///data/SmolLM2-135M-Instruct".to_owned(),
        "./SmolLM2-135M-Instruct".to_owned(),
        "../models/HuggingFaceTB/SmolLM2-135M-Instruct/.".to_owned(),
        "~/models/SmolLM2-135M-Instruct-4bit".to_owned(),
        "/models/SmolLM2-135M-Instruct/4bit".to_owned(),
        format!("/models/SmolLM2-135M-Instruct/{SHA}"),
        "/models/HuggingFaceTB_SmolLM2-135M-Instruct".to_owned(),
        "/models/unsloth_SmolLM2-135M-Instruct-bnb-4bit".to_owned(),
        "/models/HuggingFaceTB--SmolLM2-135M-Instruct".to_owned(),
        "D:/models/smollm2-135m-instruct-f16.gguf".to_owned(),
    ] {
        assert!(BaseName::read(&name).names(&smollm2()), "{name}: {:?}", BaseName::read(&name));
    }
    assert_eq!(
        BaseName::read("/root/.cache/modelscope/hub/Qwen/Qwen2___5-7B-Instruct").as_str(),
        "qwen2.5-7b-instruct"
    );
}

#[test]
fn other_models_stay_other_models() {
    for name in [
        "HuggingFaceTB/SmolLM2-135M",
        "HuggingFaceTB/SmolLM2-1.7B-Instruct",
        "HuggingFaceTB/SmolLM2-360M-Instruct-bnb-4bit",
        "HuggingFaceTB/SmolLM-135M-Instruct",
        "HuggingFaceTB/SmolLM3-135M-Instruct",
        "me/SmolLM2-135M-Instruct-sft",
        "me/SmolLM2-135M-Instruct-v0.3",
        "me/SmolLM2-135M-Instruct-Base",
        "me/SmolLM2-135M-Instruct-qat",
        "me/SmolLM2-135M-Instruct-16k",
        "me/Not-SmolLM2-135M-Instruct",
        "somebody_SmolLM2-135M-Instruct",
        "meta-llama/Llama-3.2-1B",
        "/data/Llama-3.2-1B-bnb-4bit/",
        "gpt2",
        "Org/Other-7B",
        "acme/private",
    ] {
        let read = BaseName::read(name);
        assert!(!read.names(&smollm2()) && !read.is_silent(), "{name}: {read:?}");
    }
    for (one, other) in [
        ("Mistral-7B-v0.1", "Mistral-7B-v0.3"),
        ("Qwen2.5-0.5B", "Qwen2.5-0.5B-Instruct"),
        ("Qwen2-0.5B", "Qwen2.5-0.5B"),
        ("Llama-3.1-8B", "Llama-3.1-70B"),
        ("gemma-3-4b-it", "gemma-3-4b-pt"),
        ("gemma-3-4b-it", "gemma-3-4b-it-qat"),
        ("phi-4", "phi-4-mini"),
        ("Qwen3-4B-Instruct-2507", "Qwen3-4B-Thinking-2507"),
        ("DeepSeek-R1-0528", "DeepSeek-R1"),
        ("olmo-2-1b", "olmo-2-1b-dpo"),
    ] {
        assert_ne!(BaseName::read(one), BaseName::read(other));
    }
}

#[test]
fn names_of_folders_and_placeholders_say_nothing() {
    for name in [
        "",
        "   ",
        "/",
        "./",
        "/opt/ml/input/model",
        "/opt/ml/input/data/model/",
        "./model",
        "model",
        "base_model",
        "Base-Model",
        "/tmp/xyz",
        "/tmp/tmpa1b2c3d4",
        "checkpoint-500",
        "outputs/checkpoint-500",
        "/runs/2024-10-31/exp1",
        "step_1000",
        "None",
        "null",
        "${MODEL}",
        "<base model>",
        "/data/final",
        "C:\\work\\thing",
        "~/stuff",
        SHA,
        "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
        "/mnt/models/123",
        "fp16",
        "model.safetensors",
        "/workspace/base",
        "a/b/c",
    ] {
        let read = BaseName::read(name);
        assert!(read.is_silent() && !read.names(&smollm2()), "{name}: {read:?}");
    }
}

#[test]
fn spellings_of_real_life_are_read_as_people_mean_them() {
    let base = smollm2();
    let reads = |name: &str| {
        let read = BaseName::read(name);
        (read.is_silent(), read.names(&base))
    };
    let misread = |names: &[&str], expected: (bool, bool)| -> Vec<String> {
        let wrong = names.iter().filter(|name| reads(name) != expected);
        wrong.map(|name| format!("{name} -> {:?}", BaseName::read(name))).collect()
    };
    assert_eq!(misread(THE_SAME, (false, true)), [""; 0], "these are the base");
    assert_eq!(misread(ANOTHER, (false, false)), [""; 0], "these are other models");
    assert_eq!(misread(NO_MODEL, (true, false)), [""; 0], "these tell no model");
    assert!(THE_SAME.len() >= 100 && ANOTHER.len() >= 60 && NO_MODEL.len() >= 40);
}

#[test]
fn a_folder_that_has_the_bases_own_name_names_it() {
    let tiny = base("tiny", &["Org/Tiny-Instruct"]);
    for name in ["/home/me/Tiny/", "C:\\models\\tiny", "mirror/TINY-instruct", "tiny"] {
        assert!(BaseName::read(name).names(&tiny), "{name}");
    }
    assert!(!BaseName::read("/home/me/tinier").names(&tiny));
}

#[test]
fn the_publisher_is_taken_at_their_word_and_then_the_configuration() {
    let bases =
        [base("tiny", &["Org/Tiny"]), base("tiny-q8", &["Org/Tiny-Q8_0"]), base("model", &["/data/model.gguf"])];
    let choose = |given, claim| base_to_judge_by(given, claim, &bases).map(|base| base.id.as_str());
    assert_eq!(choose(None, BaseClaim::Unstated), Some("tiny"));
    assert_eq!(choose(Some("org/tiny-q8_0"), BaseClaim::Unstated), Some("tiny-q8"));
    assert_eq!(choose(Some("org/tiny-q4_0"), BaseClaim::Unstated), Some("tiny"));
    assert_eq!(choose(Some("Org/Tiny"), BaseClaim::Stated("tiny-q8")), Some("tiny-q8"));
    assert_eq!(choose(Some("gpt2"), BaseClaim::Stated("MODEL ")), Some("model"));
    assert_eq!(base_to_judge_by(None, BaseClaim::Unstated, &[]).map(|base| &base.id), None);
    assert!(states("model", &bases[2]) && !states("model", &bases[0]) && states("unsloth/Tiny-bnb-4bit", &bases[0]));
}

const SUFFIXES: &[&str] = &[
    "-bnb-4bit",
    "-unsloth",
    "-8bit",
    "-GPTQ",
    "-GPTQ-Int4",
    "-AWQ",
    "-GGUF",
    "-Q4_K_M",
    ".Q8_0",
    "-fp16",
    "-bf16",
    "-FP8-Dynamic",
    "-w4a16",
    "-quantized.w8a8",
    "-MLX",
    "-hf",
    "-HQQ",
    "-EXL2",
    "-NF4",
    "-int8",
    "-4.0bpw",
    "-128g",
];

fn model() -> impl Strategy<Value = String> {
    let family = prop_oneof![Just("Llama"), Just("Qwen"), Just("SmolLM"), Just("Mistral"), Just("gemma")];
    let size = prop_oneof![Just("0.5B"), Just("7B"), Just("135M"), Just("1.7B"), Just("8x7B")];
    let tail = prop_oneof![Just(""), Just("-Instruct"), Just("-Base"), Just("-v0.1"), Just("-v0.3"), Just("-it-qat")];
    (family, 1..4u8, size, tail).prop_map(|(family, major, size, tail)| format!("{family}-{major}-{size}{tail}"))
}

proptest! {
    #[test]
    fn any_text_is_read_and_its_reading_reads_as_itself(text in "\\PC{0,60}|[-a-z0-9_./:@ ]{0,60}") {
        let read = BaseName::read(&text);
        let again = BaseName::read(read.as_str());
        prop_assert_eq!(read.as_str(), again.as_str());
        let _ = read.names(&smollm2());
    }

    #[test]
    fn ways_to_store_a_model_do_not_change_it_in_any_order(
        model in model(), mut suffixes in prop::sample::subsequence(SUFFIXES, 0..4), turn in 0..4usize,
        org in "[a-zA-Z][a-zA-Z0-9]{0,8}",
    ) {
        let plain = BaseName::read(&model);
        prop_assert!(!plain.is_silent());
        let turn = turn % suffixes.len().max(1);
        suffixes.rotate_left(turn);
        let stored = format!("{model}{}", suffixes.concat());
        for name in [
            stored.clone(),
            format!("{org}/{stored}"),
            format!("/x/models--{org}--{stored}/snapshots/{SHA}"),
            format!("https://huggingface.co/{org}/{stored}/tree/main"),
            format!("/home/{org}/models/{stored}/"),
            format!("{org}/{stored}@main"),
        ] {
            prop_assert_eq!(&BaseName::read(&name), &plain, "{}", name);
        }
    }

    #[test]
    fn different_models_read_differently(one in model(), other in model()) {
        prop_assert_eq!(one == other, BaseName::read(&one) == BaseName::read(&other));
    }
}

#[test]
fn a_name_of_packaging_without_end_says_nothing() {
    let most = format!("llama-7b{}", "-hf".repeat(MAX_PACKAGING_WORDS));
    assert_eq!(BaseName::read(&most).as_str(), "llama-7b");
    for word in ["-hf", "-4bit", ".gguf", "-quantized-per-token", "-.", "-hf."] {
        let (endless, few) = (word.repeat(MAX_NAME_BYTES / word.len() - 2), word.repeat(MAX_PACKAGING_WORDS + 1));
        for name in [format!("llama{endless}"), format!("llama{few}")] {
            let read = BaseName::read(&name);
            assert!(read.as_str().len() < "llama-".len() && BaseName::read(read.as_str()) == read, "{word}: {read:?}");
        }
    }
}

#[test]
fn any_text_of_a_base_name_is_read_or_refused() {
    let base = smollm2();
    souk_testkit::fuzz("base_name", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let read = BaseName::read(&text);
        format!("{} {} {}", read.is_silent(), read.names(&base), states(&text, &base))
    });
}
