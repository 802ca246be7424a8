//! The places of a llama-family model that an adapter may change, and their paths as PEFT writes them.

use std::fmt;

use crate::LlamaShape;

/// A linear module that may carry a low-rank pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Module {
    /// `self_attn.q_proj`.
    Q,
    /// `self_attn.k_proj`.
    K,
    /// `self_attn.v_proj`.
    V,
    /// `self_attn.o_proj`.
    O,
    /// `mlp.gate_proj`.
    Gate,
    /// `mlp.up_proj`.
    Up,
    /// `mlp.down_proj`.
    Down,
    /// `lm_head`, which belongs to no layer.
    LmHead,
}

impl Module {
    /// The modules that every layer has, in the order in which they run.
    pub const OF_LAYER: [Self; 7] = [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];

    /// The path below the layer.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q => "self_attn.q_proj",
            Self::K => "self_attn.k_proj",
            Self::V => "self_attn.v_proj",
            Self::O => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
            Self::LmHead => "lm_head",
        }
    }

    /// Width of the module's input.
    #[must_use]
    pub const fn in_features(self, shape: &LlamaShape) -> usize {
        match self {
            Self::O => shape.query_size(),
            Self::Down => shape.intermediate_size,
            Self::Q | Self::K | Self::V | Self::Gate | Self::Up | Self::LmHead => shape.hidden_size,
        }
    }

    /// Width of the module's output.
    #[must_use]
    pub const fn out_features(self, shape: &LlamaShape) -> usize {
        match self {
            Self::Q => shape.query_size(),
            Self::K | Self::V => shape.kv_size(),
            Self::O | Self::Down => shape.hidden_size,
            Self::Gate | Self::Up => shape.intermediate_size,
            Self::LmHead => shape.vocab_size,
        }
    }
}

/// One linear module of one model. Prints as its path, `model.layers.3.self_attn.q_proj`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleSite {
    /// The layer, from 0; `None` for the output head alone.
    pub layer: Option<usize>,
    /// Which module of it.
    pub module: Module,
}

impl ModuleSite {
    /// Every linear module of a model: layer by layer, the output head last.
    pub fn all(shape: &LlamaShape) -> impl Iterator<Item = Self> {
        let of_layer = |layer| Module::OF_LAYER.map(|module| Self { layer: Some(layer), module });
        (0..shape.num_layers).flat_map(of_layer).chain([Self { layer: None, module: Module::LmHead }])
    }

    /// Reads a path; `model.` in front may be missing.
    pub(super) fn parse(path: &str) -> Option<Self> {
        if path == "lm_head" {
            return Some(Self { layer: None, module: Module::LmHead });
        }
        let (layer, name) = parse_layer(path)?;
        let module = Module::OF_LAYER.into_iter().find(|module| module.name() == name)?;
        Some(Self { layer: Some(layer), module })
    }
}

impl fmt::Display for ModuleSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            Some(layer) => write!(f, "model.layers.{layer}.{}", self.module.name()),
            None => f.write_str(self.module.name()),
        }
    }
}

/// One RMS norm of a model. Prints as its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NormSite {
    /// `input_layernorm` of a layer: before attention.
    Attention(usize),
    /// `post_attention_layernorm` of a layer: before the feed-forward part.
    FeedForward(usize),
    /// `model.norm`: before the output head.
    Final,
}

impl NormSite {
    /// Last segments of the paths of norms.
    pub(super) const NAMES: [&'static str; 3] = ["input_layernorm", "post_attention_layernorm", "norm"];

    /// Every norm of a model, layer by layer, the last one last.
    pub fn all(shape: &LlamaShape) -> impl Iterator<Item = Self> {
        (0..shape.num_layers).flat_map(|layer| [Self::Attention(layer), Self::FeedForward(layer)]).chain([Self::Final])
    }

    /// The layer, where the norm belongs to one.
    #[must_use]
    pub const fn layer(self) -> Option<usize> {
        match self {
            Self::Attention(layer) | Self::FeedForward(layer) => Some(layer),
            Self::Final => None,
        }
    }

    /// Reads a path; `model.` in front may be missing.
    pub(super) fn parse(path: &str) -> Option<Self> {
        if path.strip_prefix("model.").unwrap_or(path) == "norm" {
            return Some(Self::Final);
        }
        match parse_layer(path)? {
            (layer, "input_layernorm") => Some(Self::Attention(layer)),
            (layer, "post_attention_layernorm") => Some(Self::FeedForward(layer)),
            _ => None,
        }
    }
}

impl fmt::Display for NormSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attention(layer) => write!(f, "model.layers.{layer}.input_layernorm"),
            Self::FeedForward(layer) => write!(f, "model.layers.{layer}.post_attention_layernorm"),
            Self::Final => f.write_str("model.norm"),
        }
    }
}

/// Splits `model.layers.3.self_attn.q_proj` into 3 and the rest.
fn parse_layer(path: &str) -> Option<(usize, &str)> {
    let path = path.strip_prefix("model.").unwrap_or(path);
    let (number, rest) = path.strip_prefix("layers.")?.split_once('.')?;
    let canonical = number.bytes().all(|b| b.is_ascii_digit()) && (number == "0" || !number.starts_with('0'));
    let layer = canonical.then(|| number.parse().ok()).flatten()?;
    Some((layer, rest))
}

#[cfg(test)]
mod tests {
    use super::super::samples::small_shape;
    use super::*;

    #[test]
    fn every_path_reads_back_as_what_printed_it_with_and_without_model() {
        for site in ModuleSite::all(&small_shape()) {
            let path = site.to_string();
            assert_eq!(ModuleSite::parse(&path), Some(site));
            assert_eq!(ModuleSite::parse(path.trim_start_matches("model.")), Some(site));
        }
        for norm in NormSite::all(&small_shape()) {
            let path = norm.to_string();
            assert_eq!(NormSite::parse(&path), Some(norm));
            assert_eq!(NormSite::parse(path.trim_start_matches("model.")), Some(norm));
        }
    }

    #[test]
    fn other_paths_are_no_modules() {
        for path in [
            "model.lm_head",
            "layers.x.mlp.up_proj",
            "layers.01.mlp.up_proj",
            "layers.+1.mlp.up_proj",
            "layers.0.mlp",
            "layers.0.self_attn.qkv_proj",
            "layers.99999999999999999999.mlp.up_proj",
            "model.model.layers.0.mlp.up_proj",
        ] {
            assert_eq!(ModuleSite::parse(path), None, "{path}");
        }
    }
}
