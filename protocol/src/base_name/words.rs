//! The words that tell what in a name is the model, and what is how it is stored, where it lies, or nothing.

use std::sync::LazyLock;

use regex::Regex;

/// Accounts whose re-uploads keep the model's name; only for folders that flatten `Org/Name` into one word.
pub(super) const RE_UPLOADERS: &[&str] = &[
    "unsloth",
    "mlx-community",
    "thebloke",
    "bartowski",
    "lmstudio-community",
    "quantfactory",
    "mradermacher",
    "redhatai",
    "neuralmagic",
    "hugging-quants",
    "casperhansen",
    "ggml-org",
    "maziyarpanahi",
    "second-state",
];

/// Hosts of hubs, for addresses without a scheme.
pub(super) const HUBS: &[&str] =
    &["huggingface.co", "www.huggingface.co", "hf.co", "hf-mirror.com", "modelscope.cn", "www.modelscope.cn"];

/// One word, at a name's end, of how weights are stored, with what qualifies it.
pub(super) static PACKAGING: LazyLock<Regex> =
    LazyLock::new(|| compiled(&format!(r"(?:[-.](?:{PACKAGING_WORDS})(?:-(?:{QUALIFIERS}))*|\.(?:{FILE_ENDINGS}))$")));
/// A name that has no other word.
static ONLY_PACKAGING: LazyLock<Regex> =
    LazyLock::new(|| compiled(&format!(r"^(?:{PACKAGING_WORDS})(?:-(?:{QUALIFIERS})|[-.](?:{PACKAGING_WORDS}))*$")));

/// Only behind a dot: `-pt` is how some makers call a pretrained model.
const FILE_ENDINGS: &str = "bin|pt|pth|git|zip|tgz|tar|gz";

const PACKAGING_WORDS: &str = concat!(
    // Containers.
    r"gguf|ggml|safetensors|onnx|openvino|ov|mlx|mlc|coreml|hf|sharded|llamafile|tflite|litert|ctranslate2|ct2",
    r"|executorch|pte|tensorrt|trt|rkllm|\d{5}-of-\d{5}",
    // Quantisers and their makers.
    r"|bnb|bitsandbytes|unsloth|gptq|gptqmodel|awq|autoawq|exl[23](?:-\d-\d)?|hqq|eetq|quip|auto-?round|marlin",
    r"|torchao|ao|quanto|vptq|spqr|aqlm(?:-pv)?(?:-\d-?bit)?(?:-\d{1,2}x\d{1,2})?",
    r"|smashed|quant(?:s|i[sz]ed|i[sz]ation)?|dwq|imatrix|imat|i1|ud|turbomind|llmcompressor|compressed-tensors",
    // Types of numbers.
    r"|(?:mx|nv)?fp(?:4|6|8|16|32)(?:a\d{1,2})?|bf16|f16|f32|nf[248]|u?int(?:2|3|4|5|6|8|16)(?:-?bits?|wo)?",
    r"|w\d{1,2}a\d{1,2}|\da\dw|\dda\dw|float(?:8|16|32)|bfloat16",
    r"|\d{1,2}-?bits?(?:-?gs?\d{2,4})?|mixed-\d-\d(?:-?bits?)?|\d{1,2}(?:\.\d{1,3})?-?bpw(?:-h\d)?",
    // llama.cpp's and MLC's types: q4_k_m, q2ks, iq3_xxs, q8_0, q4f16_1.
    r"|i?q\d(?:-(?:k|\d|nl|xxs|xs|s|m))?(?:-(?:xxs|xs|s|m|l|xl|\d))*|q\dk[sml]?|q\df\d{2}(?:-\d)?|tq\d-\d",
    // Groups of a quantiser.
    r"|gs?\d{2,4}|\d{2,4}g|act-?order|desc-?act|a?sym",
);

/// What says more of how weights are stored, behind a word that says that; alone it may be part of a model's name.
const QUALIFIERS: &str = concat!(
    "dynamic|static|kv|block|mixed|weight-only|per-(?:token|channel|tensor)|dq|double(?:-quant)?|e4m3(?:fn)?|e5m2",
    r"|true|false|gemm|gemv|inc|iq|gqa|cpu|cuda|gpu|\d{1,2}gb|vortex-v\d",
);

fn compiled(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the patterns here are fixed, and a test compiles them")
}

pub(super) fn is_packaging(name: &str) -> bool {
    ONLY_PACKAGING.is_match(name)
}

pub(super) fn is_commit(name: &str) -> bool {
    matches!(name.len(), 40 | 64) && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Words that trainers and platforms call any model.
const PLACEHOLDERS: &[&str] = &[
    "adapter",
    "artifact",
    "artifacts",
    "auto",
    "base",
    "base-llm",
    "base-model",
    "basemodel",
    "best",
    "best-model",
    "cache",
    "checkpoint",
    "checkpoints",
    "ckpt",
    "content",
    "current",
    "custom",
    "data",
    "default",
    "download",
    "export",
    "final",
    "final-model",
    "finetuned",
    "foundation-model",
    "hf-model",
    "hub",
    "huggingface",
    "input",
    "inputs",
    "last",
    "latest",
    "llm",
    "local",
    "local-model",
    "lora",
    "main",
    "master",
    "merged",
    "merged-model",
    "model",
    "model-dir",
    "model-id",
    "model-name",
    "model-name-or-path",
    "model-path",
    "models",
    "my-model",
    "mymodel",
    "name",
    "none",
    "null",
    "out",
    "output",
    "outputs",
    "path",
    "pretrained",
    "pretrained-model",
    "pytorch-model",
    "result",
    "results",
    "run",
    "runs",
    "save",
    "saved",
    "saved-model",
    "snapshot",
    "snapshots",
    "src",
    "temp",
    "test",
    "tmp",
    "train",
    "training",
    "transformers",
    "undefined",
    "unknown",
    "untitled",
    "weights",
    "workspace",
    "your-model",
];

static NUMBERED_PLACEHOLDER: LazyLock<Regex> = LazyLock::new(|| {
    compiled(
        r"^(?:(?:checkpoint|ckpt|(?:global-?)?steps?|epochs?|iter|run|exp|experiment|job|trial|version|ver|v|model|output|tmp|temp|rank)-?)?[\d.-]+$|^tmp[-a-z0-9]{6,10}$|^[0-9a-f]{7,}$|^[0-9a-f]{8}(?:-[0-9a-f]{4,12}){4}$",
    )
});

/// Words that models of every family have in their names: without a family they tell none.
static WITHOUT_FAMILY: LazyLock<Regex> =
    LazyLock::new(|| compiled(r"^(?:(?:\d+(?:\.\d+)?[bm]|instruct|chat|it|base|model|llm)(?:-|$))+$"));

pub(super) fn is_placeholder(name: &str) -> bool {
    PLACEHOLDERS.contains(&name)
        || WITHOUT_FAMILY.is_match(name)
        || name.contains(['$', '{', '}', '<', '>', '%'])
        || !name.contains(|c: char| c.is_alphabetic())
        || NUMBERED_PLACEHOLDER.is_match(name)
        || is_packaging(name)
}

/// Words by which model names begin, for paths: a folder of any other name says nothing.
static FAMILY_OR_SIZE: LazyLock<Regex> = LazyLock::new(|| {
    compiled(
        r"(?:^|[-.])(?:\d+(?:\.\d+)?(?:x\d+(?:\.\d+)?)?[bm]|(?:tiny|code|open|small|mini)?-?(?:llama|mistral|mixtral|ministral|qwen|qwq|gemma|phi|smollm|gpt|falcon|opt|pythia|bloom|mpt|starcoder|deepseek|yi|olmo|granite|bert|t5|vicuna|alpaca|zephyr|stablelm|internlm|baichuan|glm|chatglm|command|nemotron|hermes|solar|exaone|jamba|mamba|rwkv|dolly|orca|wizardlm|aya|minicpm|lfm|apertus|cerebras|redpajama)[\d.v]*(?:[-.]|$))",
    )
});

pub(super) fn looks_like_a_model(name: &str) -> bool {
    FAMILY_OR_SIZE.is_match(name) || name.split(['-', '.']).any(|word| matches!(word, "instruct" | "chat"))
}
