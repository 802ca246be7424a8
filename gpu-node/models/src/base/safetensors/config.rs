//! `config.json`: the sizes, and the settings that would change the mathematics.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use souk_protocol::{LlamaShape, TokenId};

use crate::base::BaseError;

/// The fields of `config.json` that matter to a llama model.
#[derive(Deserialize)]
pub(super) struct ModelConfig {
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    model_type: String,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: usize,
    max_position_embeddings: usize,
    rms_norm_eps: f32,
    rope_theta: Option<f32>,
    /// Where newer writers put `rope_theta` and the scaling.
    rope_parameters: Option<RopeSettings>,
    rope_scaling: Option<RopeSettings>,
    #[serde(default)]
    tie_word_embeddings: bool,
    hidden_act: Option<String>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    quantization_config: Option<Value>,
    #[serde(rename = "_name_or_path")]
    pub(super) name_or_path: Option<String>,
    #[serde(default)]
    pub(super) eos_token_id: TokenIds,
    pub(super) bos_token_id: Option<TokenId>,
    pub(super) pad_token_id: Option<TokenId>,
}

#[derive(Deserialize)]
struct RopeSettings {
    /// `type` is the older name.
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f32>,
}

/// One token, several, or none.
#[derive(Clone, Default, Deserialize)]
#[serde(untagged)]
pub(super) enum TokenIds {
    One(TokenId),
    Many(Vec<TokenId>),
    #[default]
    None,
}

impl TokenIds {
    pub(super) fn as_slice(&self) -> &[TokenId] {
        match self {
            Self::One(id) => std::slice::from_ref(id),
            Self::Many(ids) => ids,
            Self::None => &[],
        }
    }
}

impl ModelConfig {
    /// The sizes, once every setting is known to be one that is computed here.
    pub(super) fn shape(&self, path: &Path) -> Result<LlamaShape, BaseError> {
        let unsupported = |what: &str, given: &str, supported: &'static str| {
            let given = given.chars().take(80).collect();
            Err(BaseError::Unsupported { path: path.to_owned(), what: what.to_owned(), given, supported })
        };
        let is_llama = self.architectures.iter().any(|name| name == "LlamaForCausalLM")
            || self.architectures.is_empty() && self.model_type == "llama";
        if !is_llama {
            let given = format!("{} {}", self.architectures.join(", "), self.model_type);
            return unsupported("architectures", given.trim(), "LlamaForCausalLM");
        }
        for (field, rope) in [("rope_scaling", &self.rope_scaling), ("rope_parameters", &self.rope_parameters)] {
            let rope_type = rope.as_ref().and_then(|rope| rope.rope_type.as_deref()).unwrap_or("default");
            if rope_type != "default" {
                return unsupported(field, rope_type, "default");
            }
        }
        let activation = self.hidden_act.as_deref().unwrap_or("silu");
        if activation != "silu" {
            return unsupported("hidden_act", activation, "silu");
        }
        for (field, is_set) in [("attention_bias", self.attention_bias), ("mlp_bias", self.mlp_bias)] {
            if is_set {
                return unsupported(field, "true", "false");
            }
        }
        if let Some(quantization) = &self.quantization_config {
            return unsupported("quantization_config", &quantization.to_string(), "none; use a GGUF file");
        }
        let in_parameters = self.rope_parameters.as_ref().and_then(|rope| rope.rope_theta);
        Ok(LlamaShape {
            num_layers: self.num_hidden_layers,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_heads: self.num_attention_heads,
            num_kv_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            head_dim: self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1)),
            vocab_size: self.vocab_size,
            context_length: self.max_position_embeddings,
            rope_theta: self.rope_theta.or(in_parameters).unwrap_or(10_000.0),
            rms_norm_eps: self.rms_norm_eps,
            tie_word_embeddings: self.tie_word_embeddings,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(change: &str) -> Result<LlamaShape, BaseError> {
        let text = format!(
            r#"{{"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 128,
                "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 128,
                "max_position_embeddings": 256, "rms_norm_eps": 1e-5{change}}}"#
        );
        serde_json::from_str::<ModelConfig>(&text).expect(&text).shape(Path::new("config.json"))
    }

    #[test]
    fn what_is_not_said_has_the_default_of_the_format() {
        let shape = shape("").unwrap();
        assert_eq!((shape.num_kv_heads, shape.head_dim, shape.rope_theta), (4, 16, 10_000.0));
        assert!(!shape.tie_word_embeddings);
    }

    #[test]
    fn both_places_of_the_rotary_base_are_read() {
        assert_eq!(shape(r#", "rope_theta": 5e5"#).unwrap().rope_theta, 5e5);
        let newer = r#", "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}"#;
        assert_eq!(shape(newer).unwrap().rope_theta, 5e5);
    }

    #[test]
    fn settings_that_change_the_mathematics_are_refused_by_name() {
        let cases = [
            ("rope_scaling", r#"{"rope_type": "llama3", "factor": 8.0}"#),
            ("rope_scaling", r#"{"type": "linear", "factor": 2.0}"#),
            ("rope_parameters", r#"{"rope_type": "yarn"}"#),
            ("hidden_act", r#""gelu""#),
            ("attention_bias", "true"),
            ("mlp_bias", "true"),
            ("quantization_config", r#"{"quant_method": "gptq"}"#),
        ];
        for (field, value) in cases {
            let error = shape(&format!(r#", "{field}": {value}"#)).expect_err(field).to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}
