//! The table of configuration fields, and typed access to them with a problem for each wrong type.

use serde_json::{Map, Value};

use super::pattern::Pattern;
use super::problem::{Problem, ProblemCode, ProblemList};
use super::strict_json::describe;
use super::{MAX_INVOCATION_TOKENS, MAX_PATTERNS, MAX_RANK};
use crate::TokenId;

/// What Souk does with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Read by [`super::LoraConfig`].
    Used,
    /// Has no effect on a trained adapter, whatever its value.
    Harmless,
    /// Changes the answers and is not supported; refused when set.
    Refused(&'static str),
    /// Refused unless unset or equal to the text.
    OnlyValue(&'static str, &'static str),
    /// Not in the table; refused when set.
    Unknown,
}

/// Looks a field up. docs/adapters.md shows the same table to authors.
pub(super) fn meaning(name: &str) -> Meaning {
    match name {
        "peft_type"
        | "base_model_name_or_path"
        | "r"
        | "lora_alpha"
        | "rank_pattern"
        | "alpha_pattern"
        | "use_rslora"
        | "use_dora"
        | "target_modules"
        | "exclude_modules"
        | "layers_to_transform"
        | "layers_pattern"
        | "modules_to_save"
        | "init_lora_weights"
        | "ensure_weight_tying"
        | "alora_invocation_tokens"
        | "lora_dropout" => Meaning::Used,
        "revision" | "inference_mode" | "peft_version" | "auto_mapping" | "loftq_config" | "eva_config"
        | "corda_config" | "lora_ga_config" | "megatron_config" | "megatron_core" | "qalora_group_size" => {
            Meaning::Harmless
        }
        "task_type" => Meaning::OnlyValue("CAUSAL_LM", "only adapters of causal language models are served"),
        "bias" => Meaning::OnlyValue("none", "adapters cannot change biases"),
        "lora_bias" => Meaning::Refused("pairs cannot have a bias"),
        "fan_in_fan_out" => Meaning::Refused("the base model has no transposed (Conv1D) modules"),
        "layer_replication" => Meaning::Refused("it changes the depth of the shared base model"),
        "trainable_token_indices" => Meaning::Refused("adapters cannot change token embeddings"),
        "target_parameters" => Meaning::Refused("only linear modules can be targeted, not single parameters"),
        "use_qalora" => Meaning::Refused("QA-LoRA pools the module's input"),
        "use_bdlora" => Meaning::Refused("BD-LoRA has block-diagonal pairs"),
        "arrow_config" => Meaning::Refused("Arrow routes between several adapters by token"),
        "kasa_config" => Meaning::Refused("KaSA changes the base model's weights"),
        "velora_config" => Meaning::Refused("VeLoRA changes the computation"),
        "monteclora_config" => Meaning::Refused("MonteCLoRA samples its pairs"),
        _ => Meaning::Unknown,
    }
}

/// Whether Python would take the value for false, which is how PEFT writes an option that is off.
pub(super) fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// Typed access. A field that is absent or null has its default.
pub(super) struct Fields<'a> {
    pub(super) object: &'a Map<String, Value>,
    pub(super) problems: &'a mut ProblemList,
}

impl<'a> Fields<'a> {
    pub(super) fn flag(&mut self, name: &'static str) -> bool {
        match self.present(name) {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(other) => self.refuse(name, "true or false", other, false),
        }
    }

    pub(super) fn number(&mut self, name: &'static str, default: f64) -> f64 {
        match self.present(name) {
            None => default,
            Some(Value::Number(number)) => number.as_f64().unwrap_or(default),
            Some(other) => self.refuse(name, "a number", other, default),
        }
    }

    pub(super) fn rank(&mut self, name: &'static str, default: usize) -> usize {
        let Some(value) = self.present(name) else { return default };
        match value.as_u64().and_then(|rank| usize::try_from(rank).ok()) {
            Some(rank) if (1..=MAX_RANK).contains(&rank) => rank,
            _ => self.refuse(name, &format!("a rank of 1 to {MAX_RANK}"), value, default),
        }
    }

    pub(super) fn text(&mut self, name: &'static str) -> Option<&'a str> {
        match self.present(name)? {
            Value::String(text) => Some(text),
            other => self.refuse(name, "a text", other, None),
        }
    }

    /// A list of names.
    pub(super) fn names(&mut self, name: &'static str) -> Option<Vec<String>> {
        let value = self.present(name)?;
        let names = value
            .as_array()
            .filter(|items| items.len() <= MAX_PATTERNS)
            .and_then(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect());
        names.or_else(|| self.refuse(name, &format!("a list of at most {MAX_PATTERNS} names"), value, None))
    }

    /// A list of token ids; an empty list is as good as none.
    pub(super) fn tokens(&mut self, name: &'static str) -> Vec<TokenId> {
        let Some(value) = self.present(name) else { return Vec::new() };
        let token = |item: &Value| item.as_u64().and_then(|token| TokenId::try_from(token).ok());
        let tokens = value
            .as_array()
            .filter(|items| items.len() <= MAX_INVOCATION_TOKENS)
            .and_then(|items| items.iter().map(token).collect());
        let expected = format!("a list of at most {MAX_INVOCATION_TOKENS} token ids");
        tokens.unwrap_or_else(|| self.refuse(name, &expected, value, Vec::new()))
    }

    /// One layer or a list of layers; an empty list is as good as none.
    pub(super) fn layer_numbers(&mut self, name: &'static str) -> Option<Vec<usize>> {
        let value = self.present(name)?;
        let number = |item: &Value| item.as_u64().and_then(|layer| usize::try_from(layer).ok());
        let layers = match value {
            Value::Array(items) if items.len() <= MAX_PATTERNS => items.iter().map(number).collect(),
            other => number(other).map(|layer| vec![layer]),
        };
        match layers {
            Some(layers) => (!layers.is_empty()).then_some(layers),
            None => {
                self.refuse(name, &format!("a layer number or a list of at most {MAX_PATTERNS} of them"), value, None)
            }
        }
    }

    /// A table from patterns to values, in file order.
    pub(super) fn pattern_table<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&Value) -> Result<T, String>,
    ) -> Vec<(Pattern, T)> {
        let table = match self.present(name) {
            None => return Vec::new(),
            Some(Value::Object(table)) if table.len() <= MAX_PATTERNS => table,
            Some(other) => {
                return self.refuse(name, &format!("an object of at most {MAX_PATTERNS} entries"), other, Vec::new());
            }
        };
        let mut entries = Vec::with_capacity(table.len());
        for (key, value) in table {
            let pattern = self.pattern(Pattern::suffix(name, key));
            match read(value) {
                Ok(value) => entries.extend(pattern.map(|pattern| (pattern, value))),
                Err(expected) => self.refuse(name, &expected, value, ()),
            }
        }
        entries
    }

    /// The pattern, or a note of what is wrong with it.
    pub(super) fn pattern(&mut self, pattern: Result<Pattern, Problem>) -> Option<Pattern> {
        pattern.map_err(|problem| self.problems.push(problem)).ok()
    }

    fn present(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    fn refuse<T>(&mut self, name: &str, expected: &str, given: &Value, instead: T) -> T {
        let message = format!("expected {expected}, given {}", describe(given));
        self.problems.add(ProblemCode::FieldInvalid, name, message);
        instead
    }
}
