//! `adapter_config.json`: every field that changes the answers is honoured or refused by name.

use serde_json::Value;

use super::fields::{Fields, Meaning, is_unset, meaning};
use super::pattern::Pattern;
use super::problem::{ProblemCode, ProblemList, Problems};
use super::selector::{LayerFilter, ModuleSelector, Selection, ends_with_segment};
use super::strict_json::{describe, parse_object};
use super::{MAX_BACKTRACKING_PATTERNS, MAX_CONFIG_BYTES, MAX_RANK, ModuleSite, NormSite};
use crate::manifest::CONFIG_FILE;
use crate::{LlamaShape, TokenId};

/// The parts of a LoRA configuration that matter when an adapter is used.
#[derive(Clone, Debug)]
pub struct LoraConfig {
    /// `base_model_name_or_path`; `None` where it is absent, null or empty.
    pub base_model: Option<String>,
    /// `r`: rank of a pair that no entry of `rank_pattern` names.
    pub rank: usize,
    /// `lora_alpha`, where no entry of `alpha_pattern` says otherwise.
    pub alpha: f64,
    /// Ranks of particular modules; the first pattern that matches counts.
    pub rank_pattern: Vec<(Pattern, usize)>,
    /// Alphas of particular modules; the first pattern that matches counts.
    pub alpha_pattern: Vec<(Pattern, f64)>,
    /// Whether the scale is alpha / sqrt(rank) rather than alpha / rank.
    pub use_rslora: bool,
    /// Whether each pair has a magnitude vector.
    pub use_dora: bool,
    /// Modules that carry a pair.
    pub targets: ModuleSelector,
    /// Modules that do not, though `targets` has them.
    pub exclude: Option<ModuleSelector>,
    /// Layers to which `targets` is limited.
    pub layers: Option<LayerFilter>,
    /// Norms whose full weights the file holds, as `modules_to_save` names them.
    pub norms_to_save: Vec<String>,
    /// `alora_invocation_tokens`: the adapter acts from their last occurrence in the prompt on; empty: on the whole
    /// prompt.
    pub invocation_tokens: Vec<TokenId>,
    /// `ensure_weight_tying`: a pair on a tied output head acts on the embedding too.
    pub ensure_weight_tying: bool,
}

impl LoraConfig {
    /// Reads the file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, Problems> {
        let mut problems = ProblemList::default();
        match Self::read(bytes, &mut problems) {
            Some(config) => problems.into_result(config),
            None => Err(problems.into_problems().expect("a configuration that cannot be read has a problem")),
        }
    }

    /// Reads the file as far as it goes. A configuration comes back, beside any problems, where it still says which
    /// modules are meant and with which rank, so that the weights can be compared with it.
    pub(super) fn read(bytes: &[u8], problems: &mut ProblemList) -> Option<Self> {
        if bytes.len() > MAX_CONFIG_BYTES {
            let message = format!("expected at most {MAX_CONFIG_BYTES} bytes, given {}", bytes.len());
            problems.add(ProblemCode::TooLarge, CONFIG_FILE, message);
            return None;
        }
        let object = parse_object(bytes, CONFIG_FILE, ProblemCode::ConfigInvalid, problems)?;
        for (name, value) in &object {
            check_meaning(name, value, problems);
        }
        let mut fields = Fields { object: &object, problems };
        check_peft_type(&mut fields);
        check_init(&mut fields);
        fields.number("lora_dropout", 0.0);
        let unknown_selection = fields.problems.count();
        let config = Self {
            base_model: fields
                .text("base_model_name_or_path")
                .filter(|name| !name.trim().is_empty())
                .map(str::to_owned),
            rank: fields.rank("r", 8),
            alpha: fields.number("lora_alpha", 8.0),
            rank_pattern: read_rank_pattern(&mut fields),
            alpha_pattern: read_alpha_pattern(&mut fields),
            use_rslora: fields.flag("use_rslora"),
            use_dora: fields.flag("use_dora"),
            targets: read_selector(&mut fields, "target_modules")
                .unwrap_or_else(|| ModuleSelector::Names(["q_proj", "v_proj"].map(str::to_owned).into())),
            exclude: read_selector(&mut fields, "exclude_modules"),
            layers: read_layers(&mut fields),
            norms_to_save: fields.names("modules_to_save").unwrap_or_default(),
            invocation_tokens: fields.tokens("alora_invocation_tokens"),
            ensure_weight_tying: fields.flag("ensure_weight_tying"),
        };
        let readable = fields.problems.count() == unknown_selection;
        check_norms_to_save(&config.norms_to_save, problems);
        let is_mica = object.get("init_lora_weights").is_some_and(|kind| kind == MICA);
        check_variants(&config, is_mica, problems);
        check_backtracking(&config, problems);
        readable.then_some(config)
    }

    /// Whether every pattern decides every path of a model within its steps; notes each that does not.
    pub(super) fn check_steps(&self, shape: &LlamaShape, problems: &mut ProblemList) -> bool {
        let before = problems.count();
        if self.patterns().any(Pattern::is_backtracking) {
            let sites = ModuleSite::all(shape).map(|site| site.to_string());
            let paths: Vec<_> = sites.chain(["model.embed_tokens".to_owned()]).collect();
            for pattern in self.patterns() {
                if let Err(problem) = pattern.check_steps(paths.iter().map(String::as_str)) {
                    problems.push(problem);
                }
            }
        }
        problems.count() == before
    }

    fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        let selectors = [Some(&self.targets), self.exclude.as_ref()].into_iter().flatten();
        let of_ranks = self.rank_pattern.iter().map(|(pattern, _)| pattern);
        let of_alphas = self.alpha_pattern.iter().map(|(pattern, _)| pattern);
        let of_layers = self.layers.iter().flat_map(|layers| &layers.patterns);
        selectors.filter_map(ModuleSelector::pattern).chain(of_ranks).chain(of_alphas).chain(of_layers)
    }

    /// Whether the linear module or embedding at `path` carries a pair.
    #[must_use]
    pub fn targets(&self, path: &str) -> bool {
        if self.exclude.as_ref().is_some_and(|exclude| exclude.select(path) != Selection::No) {
            return false;
        }
        match self.targets.select(path) {
            Selection::No => false,
            Selection::Exact => true,
            Selection::Yes => self.layers.as_ref().is_none_or(|layers| layers.admits(path)),
        }
    }

    /// Whether the file holds full weights of the norm at `path`.
    #[must_use]
    pub fn saves_norm(&self, path: &str) -> bool {
        self.norms_to_save.iter().any(|name| name == path || ends_with_segment(path, name))
    }

    /// Whether the file may hold full weights of the norm at `path`: PEFT copies every module whose path ends with
    /// the text, so `norm` takes `input_layernorm` along.
    #[must_use]
    pub fn may_save_norm(&self, path: &str) -> bool {
        self.norms_to_save.iter().any(|name| path.ends_with(name))
    }

    /// The rank of the pair on the module at `path`.
    #[must_use]
    pub fn rank_of(&self, path: &str) -> usize {
        self.rank_pattern.iter().find(|(pattern, _)| pattern.matches(path)).map_or(self.rank, |(_, rank)| *rank)
    }

    /// The factor on the product of the pair on the module at `path`.
    #[must_use]
    pub fn scale_of(&self, path: &str) -> f64 {
        let alpha = self
            .alpha_pattern
            .iter()
            .find(|(pattern, _)| pattern.matches(path))
            .map_or(self.alpha, |(_, alpha)| *alpha);
        // A rank that was found is at most MAX_RANK, so the conversion is exact.
        let rank = self.rank_of(path) as f64;
        if self.use_rslora { alpha / rank.sqrt() } else { alpha / rank }
    }
}

/// Refuses a field that is set although it may not be.
fn check_meaning(name: &str, value: &Value, problems: &mut ProblemList) {
    let (code, reason) = match meaning(name) {
        Meaning::Used | Meaning::Harmless => return,
        Meaning::Refused(reason) => (ProblemCode::UnsupportedOption, reason),
        Meaning::OnlyValue(allowed, reason) => {
            if value.as_str() == Some(allowed) {
                return;
            }
            (ProblemCode::UnsupportedOption, reason)
        }
        Meaning::Unknown => {
            (ProblemCode::UnknownOption, "this version of Souk does not know it, and it may change the answers")
        }
    };
    if !is_unset(value) {
        problems.add(code, name, format!("{} is not supported: {reason}", describe(value)));
    }
}

fn check_peft_type(fields: &mut Fields<'_>) {
    match fields.object.get("peft_type") {
        Some(Value::String(kind)) if kind == "LORA" => {}
        Some(other) => {
            let message = format!("expected \"LORA\", given {}", describe(other));
            fields.problems.add(ProblemCode::UnsupportedPeftType, "peft_type", message);
        }
        None => fields.problems.add(ProblemCode::UnsupportedPeftType, "peft_type", "expected \"LORA\", it is missing"),
    }
}

/// Most initialisations only choose where training begins. Some move part of the base model's weights into the pair,
/// so that it is right on their own residual alone.
fn check_init(fields: &mut Fields<'_>) {
    let Some(value) = fields.object.get("init_lora_weights") else { return };
    let reason = match value {
        Value::Null | Value::Bool(_) => return,
        Value::String(kind) => match kind.as_str() {
            // MiCA begins with singular vectors in B and zeros in A, and leaves the base model's weights alone.
            "gaussian" | "eva" | "orthogonal" | MICA => return,
            "loftq" => {
                "it was trained against a base model that LoftQ had quantised in its own way; train it on this base model"
            }
            "olora" | "corda" | "lora_ga" => CONVERT,
            kind if kind == "pissa" || kind.starts_with("pissa_niter_") => CONVERT,
            _ => "this version of Souk does not know it, and it may need another base model",
        },
        _ => "expected true, false or a name",
    };
    let message = format!("{} is not supported: {reason}", describe(value));
    fields.problems.add(ProblemCode::UnsupportedOption, "init_lora_weights", message);
}

const MICA: &str = "mica";
const CONVERT: &str = "it changes the base model's weights; save the adapter as an ordinary one with \
                       `save_pretrained(..., path_initial_model_for_weight_conversion=...)`";

fn read_rank_pattern(fields: &mut Fields<'_>) -> Vec<(Pattern, usize)> {
    fields.pattern_table("rank_pattern", |value| {
        let rank = value.as_u64().and_then(|rank| usize::try_from(rank).ok());
        rank.filter(|rank| (1..=MAX_RANK).contains(rank)).ok_or_else(|| format!("a rank of 1 to {MAX_RANK}"))
    })
}

fn read_alpha_pattern(fields: &mut Fields<'_>) -> Vec<(Pattern, f64)> {
    fields.pattern_table("alpha_pattern", |value| value.as_f64().ok_or_else(|| "a number".to_owned()))
}

fn read_selector(fields: &mut Fields<'_>, name: &'static str) -> Option<ModuleSelector> {
    match fields.object.get(name)? {
        Value::String(text) if name == "target_modules" && text.eq_ignore_ascii_case("all-linear") => {
            Some(ModuleSelector::AllLinear)
        }
        // Python takes an empty text for "not set" here, and as a pattern that matches nothing for targets.
        Value::String(text) if name == "exclude_modules" && text.is_empty() => None,
        Value::String(text) => fields.pattern(Pattern::full(name, text)).map(ModuleSelector::Pattern),
        _ => fields.names(name).map(ModuleSelector::Names),
    }
}

fn read_layers(fields: &mut Fields<'_>) -> Option<LayerFilter> {
    let layers = fields.layer_numbers("layers_to_transform");
    let names = match fields.object.get("layers_pattern") {
        Some(Value::String(name)) if name.is_empty() => Vec::new(),
        Some(Value::String(name)) => vec![name.clone()],
        _ => fields.names("layers_pattern").unwrap_or_default(),
    };
    let by_text = fields.object.get("target_modules").is_some_and(Value::is_string);
    for (name, is_set) in [("layers_to_transform", layers.is_some()), ("layers_pattern", !names.is_empty())] {
        if is_set && by_text {
            let message = "it acts on a list of target_modules only; write the layers into the pattern";
            fields.problems.add(ProblemCode::FieldInvalid, name, message);
        }
    }
    if layers.is_none() && !names.is_empty() {
        let message = "it has no meaning without layers_to_transform";
        fields.problems.add(ProblemCode::FieldInvalid, "layers_pattern", message);
    }
    // Without a pattern any segment may precede the number.
    let names = if names.is_empty() { vec!["[^.]*".to_owned()] } else { names };
    let patterns: Vec<_> =
        names.iter().filter_map(|name| fields.pattern(Pattern::layer("layers_pattern", name))).collect();
    layers.map(|layers| LayerFilter { layers, patterns })
}

fn check_norms_to_save(names: &[String], problems: &mut ProblemList) {
    for name in names {
        let last = name.rsplit('.').next().unwrap_or_default();
        if !NormSite::NAMES.contains(&last) {
            let message = format!(
                "a full copy of `{}` is not supported: adapters share the base model's matrices; norms may be saved \
                 ({})",
                super::problem::clip(name, 80),
                NormSite::NAMES.join(", ")
            );
            problems.add(ProblemCode::UnsupportedOption, "modules_to_save", message);
        }
    }
}

/// Refuses what cannot go together. PEFT gives a pair one variant at most: plain, DoRA, activated, MiCA (it has more,
/// which are refused on their own). Full weights of norms it does combine with activation, and applies them to the rows
/// before the invocation too; those would not be the base model's then, which is what activation is for.
fn check_variants(config: &LoraConfig, is_mica: bool, problems: &mut ProblemList) {
    let is_activated = !config.invocation_tokens.is_empty();
    let saves_norms = !config.norms_to_save.is_empty();
    let mut refuse = |is_set: bool, name: &str, other: &str, reason: &str| {
        if is_set {
            problems.add(ProblemCode::UnsupportedOption, name, format!("it cannot go with {other}: {reason}"));
        }
    };
    let one_variant = "a pair is of one variant only";
    let activation = "alora_invocation_tokens";
    refuse(is_activated && config.use_dora, "use_dora", activation, one_variant);
    refuse(is_activated && is_mica, "init_lora_weights", activation, one_variant);
    refuse(is_mica && config.use_dora, "init_lora_weights", "use_dora", one_variant);
    refuse(is_activated && saves_norms, "modules_to_save", activation, "only pairs can begin to act within a prompt");
}

/// Backtracking is bounded for each pattern and path; this bounds the sum.
fn check_backtracking(config: &LoraConfig, problems: &mut ProblemList) {
    let given = config.patterns().filter(|pattern| pattern.is_backtracking()).count();
    if given > MAX_BACKTRACKING_PATTERNS {
        let message = format!(
            "at most {MAX_BACKTRACKING_PATTERNS} regular expressions may have look-around, backreferences or atomic \
             groups, given {given}"
        );
        problems.add(ProblemCode::TooLarge, CONFIG_FILE, message);
    }
}

#[cfg(test)]
mod tests;
