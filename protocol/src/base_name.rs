//! Which base model a name means. Trainers write what they loaded: a hub's `Org/Name`, a re-upload in another
//! precision, a path into a cache, a folder of their machine. [`BaseName::read`] is the one reading of all of them.
//!
//! Two names mean one model if they read alike. What is taken off tells how weights are stored (`-bnb-4bit`, `-GGUF`)
//! or where they lie; what tells which weights they are (`-Instruct`, `-1.7B`, `v0.3`, `-qat`) stays.

use std::sync::LazyLock;

use regex::Regex;

use crate::BaseModel;

/// Longest name that is read; longer ones say nothing.
const MAX_NAME_BYTES: usize = 4096;

/// A name of a base model, read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BaseName {
    /// The last part in lower case, parted by dashes, without revision, precision and format; may be empty.
    name: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// It tells a model.
    Model,
    /// A folder whose name is no model's that anybody knows; it may still be the one that is served here.
    Folder,
    /// A word for any model: `model`, `checkpoint-500`, nothing at all.
    Placeholder,
}

/// What says which base model an adapter is for, beside its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseClaim<'a> {
    /// Nothing. A name that says nothing is refused; no name at all is accepted where the shapes fit.
    Unstated,
    /// The publisher names it, for configurations whose own name says nothing. It does not overrule one that says more.
    Stated(&'a str),
    /// The base was settled when the version was published: its digest is in the manifest.
    Settled,
}

impl BaseName {
    /// Reads a name, a path or an address of a base model. Total: any text is a name or says nothing.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let location = Location::read(text);
        let name = location.name();
        let kind = if is_placeholder(&name) {
            Kind::Placeholder
        } else if location.is_local && !looks_like_a_model(&name) {
            Kind::Folder
        } else {
            Kind::Model
        };
        Self { name, kind }
    }

    /// Whether it does not tell which model it means, and so may mean any.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.kind != Kind::Model
    }

    /// The reading: the model's name, in the form in which two names of one model are equal.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Whether it names `base`, by its id or one of its aliases. Organisations do not count: re-uploads keep the name.
    #[must_use]
    pub fn names(&self, base: &BaseModel) -> bool {
        self.kind != Kind::Placeholder
            && names_of(base).map(Location::read).any(|alias| {
                let (given, name) = (&self.name, alias.name());
                // Some tools flatten `Org/Name` to `Org_Name`.
                let org_given = given.strip_suffix(name.as_str()).and_then(|org| org.strip_suffix('-'));
                *given == name
                    || org_given.is_some_and(|org| alias.org.as_deref() == Some(org) || RE_UPLOADERS.contains(&org))
            })
    }
}

/// Whether `stated`, a publisher's word, names `base`: like a name in a configuration, or to the letter, whatever the
/// base is called.
#[must_use]
pub fn states(stated: &str, base: &BaseModel) -> bool {
    is_to_the_letter(stated, base) || BaseName::read(stated).names(base)
}

/// The base model among `bases` that an adapter is to be judged by: the one that the publisher states, else the one
/// that the configuration names, else the first. Whether that is right, the judge says.
#[must_use]
pub fn base_to_judge_by<'a>(
    given: Option<&str>,
    claim: BaseClaim<'_>,
    bases: &'a [BaseModel],
) -> Option<&'a BaseModel> {
    let stated = match claim {
        BaseClaim::Stated(name) => Some(name),
        BaseClaim::Unstated | BaseClaim::Settled => None,
    };
    // Of two bases that read alike, as one model in two precisions does, the one named to the letter is meant.
    let named = |name: &str| {
        let to_the_letter = bases.iter().find(|base| is_to_the_letter(name, base));
        to_the_letter.or_else(|| bases.iter().find(|base| BaseName::read(name).names(base)))
    };
    stated.and_then(named).or_else(|| given.and_then(named)).or_else(|| bases.first())
}

fn names_of(base: &BaseModel) -> impl Iterator<Item = &str> {
    base.aliases.iter().chain([&base.id]).map(String::as_str)
}

fn is_to_the_letter(name: &str, base: &BaseModel) -> bool {
    names_of(base).any(|alias| alias.eq_ignore_ascii_case(name.trim()))
}

/// Accounts whose re-uploads keep the model's name; only for folders that flatten `Org/Name` into one word.
const RE_UPLOADERS: &[&str] = &[
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

/// Where a name leads: its parts, cleaned of scheme, revision and cache folders.
struct Location {
    /// Parts in lower case, outermost first; none is empty.
    parts: Vec<String>,
    /// The organisation, where the text has the form `org/name`.
    org: Option<String>,
    /// Whether it is a path on some machine rather than a hub's name.
    is_local: bool,
}

impl Location {
    fn read(text: &str) -> Self {
        let text = text.trim_matches(is_around);
        if text.len() > MAX_NAME_BYTES {
            return Self { parts: Vec::new(), org: None, is_local: true };
        }
        let text = text.to_lowercase().replace('\\', "/").replace("%2f", "/").replace("%20", " ");
        let (path, is_address) = without_scheme(&text);
        let starts_local = !is_address && (path.starts_with(['/', '.', '~']) || has_drive(path));
        // A revision may have slashes of its own.
        let path = ["@refs/", ":refs/"].iter().filter_map(|mark| path.find(mark)).min().map_or(path, |at| &path[..at]);
        let path = if starts_local { path } else { path.split(['?', '#']).next().unwrap_or_default() };
        let mut parts: Vec<&str> =
            path.split('/').map(str::trim).filter(|part| !matches!(*part, "" | "." | ".." | "~")).collect();
        if let Some(cached) = parts.iter().rposition(|part| part.starts_with("models--")) {
            let parts: Vec<_> =
                parts[cached].split("--").skip(1).filter(|part| !part.is_empty()).map(str::to_owned).collect();
            return Self { org: org_of(&parts), parts, is_local: false };
        }
        let is_address = is_address || parts.first().is_some_and(|host| HUBS.contains(host));
        if is_address && parts.len() > 1 {
            parts.remove(0);
        }
        cut_below_the_model(&mut parts, is_address);
        let parts: Vec<_> = parts.into_iter().map(str::to_owned).collect();
        let is_local = starts_local || (!is_address && parts.len() > 2);
        Self { org: if is_local { None } else { org_of(&parts) }, parts, is_local }
    }

    /// The model's name: the last part, or, where that tells the precision or commit alone, the one above.
    fn name(&self) -> String {
        let names: Vec<_> = self.parts.iter().rev().map(|part| clean(part)).filter(|name| !name.is_empty()).collect();
        let telling = names.iter().find(|name| !is_commit(name) && !is_packaging(name));
        telling.or(names.first()).cloned().unwrap_or_default()
    }
}

/// Hosts of hubs, for addresses without a scheme.
const HUBS: &[&str] =
    &["huggingface.co", "www.huggingface.co", "hf.co", "hf-mirror.com", "modelscope.cn", "www.modelscope.cn"];

/// The text behind `scheme://`, and whether what is left begins with a host.
fn without_scheme(text: &str) -> (&str, bool) {
    let Some((scheme, rest)) = text.split_once("://") else { return (text, false) };
    match scheme {
        "http" | "https" => (rest, true),
        // `hf://org/name` is a hub's name, others are folders in some store.
        _ => (rest, false),
    }
}

/// What may stand around a name and is no part of it.
fn is_around(c: char) -> bool {
    c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '`')
}

fn has_drive(path: &str) -> bool {
    matches!(path.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic())
}

/// Cuts what lies below the model: a hub's pages, a cache's snapshots.
fn cut_below_the_model(parts: &mut Vec<&str>, is_address: bool) {
    let is_page = |part: &str| matches!(part, "tree" | "blob" | "resolve" | "raw" | "commit" | "summary" | "files");
    let page = parts.iter().position(|part| *part == "snapshots" || (is_address && is_page(part)));
    if let Some(page) = page.filter(|&page| page > 0) {
        parts.truncate(page);
    }
}

fn org_of(parts: &[String]) -> Option<String> {
    match parts {
        [org, _] => Some(clean(org)),
        _ => None,
    }
}

/// What begins a revision, a tag, a query or a fragment.
const BEHIND_A_NAME: [char; 4] = ['@', ':', '?', '#'];

/// What word processors and web pages make of a dash.
const DASHES: [char; 5] = ['\u{2010}', '\u{2011}', '\u{2012}', '\u{2013}', '\u{2212}'];

/// A part in its plain form: one kind of separator, no revision, no file ending, no precision, no format.
fn clean(part: &str) -> String {
    let part = part.trim_start_matches(BEHIND_A_NAME);
    let end = part.find(BEHIND_A_NAME).unwrap_or(part.len());
    // ModelScope's cache writes a dot as three underscores.
    let part = part[..end].replace("___", ".");
    let mut name = String::with_capacity(part.len());
    for character in part.chars() {
        let is_separator = character == '_' || character.is_whitespace() || DASHES.contains(&character);
        let character = if is_separator { '-' } else { character };
        if character != '-' || !name.ends_with('-') {
            name.push(character);
        }
    }
    loop {
        let trimmed = name.trim_matches(|c: char| matches!(c, '-' | '.') || is_around(c));
        let shorter = match PACKAGING.find(trimmed) {
            Some(found) if found.start() > 0 => &trimmed[..found.start()],
            _ => trimmed,
        };
        if shorter.len() == name.len() {
            return name;
        }
        name = shorter.to_owned();
    }
}

/// One word, at a name's end, of how weights are stored, with what qualifies it.
static PACKAGING: LazyLock<Regex> =
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

fn is_packaging(name: &str) -> bool {
    ONLY_PACKAGING.is_match(name)
}

fn is_commit(name: &str) -> bool {
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

fn is_placeholder(name: &str) -> bool {
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

fn looks_like_a_model(name: &str) -> bool {
    FAMILY_OR_SIZE.is_match(name) || name.split(['-', '.']).any(|word| matches!(word, "instruct" | "chat"))
}

#[cfg(test)]
mod spellings;
#[cfg(test)]
mod tests;
