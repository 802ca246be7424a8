//! What a tensor's name in an adapter file says: which part of which module it is.

use super::modules::{ModuleSite, NormSite};

/// A tensor's place, with the adapter name that PEFT strips on saving and live models have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TensorName<'a> {
    pub(super) role: TensorRole,
    pub(super) adapter: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TensorRole {
    /// `lora_A.weight`, `[rank, in_features]`.
    A(ModuleSite),
    /// `lora_B.weight`, `[out_features, rank]`.
    B(ModuleSite),
    /// `lora_magnitude_vector`, `[out_features]`.
    Magnitude(ModuleSite),
    /// A norm's full weights, `[hidden_size]`.
    Norm(NormSite),
    /// `lm_head.base_layer.weight`: the frozen matrix below a pair on the head, which PEFT saves along with it.
    HeadCopy,
}

/// Reads a name, or says why there is no place for it.
pub(super) fn read(name: &str) -> Result<TensorName<'_>, String> {
    let path = name.strip_prefix("base_model.model.").unwrap_or(name);
    if path.split('.').any(|part| part == "token_adapter") {
        return Err("trained token embeddings (trainable_token_indices) are not supported".to_owned());
    }
    match path.find(".lora_") {
        Some(dot) => read_lora(&path[..dot], &path[dot + 1..]),
        None => read_full(path),
    }
}

fn read_lora<'a>(module: &'a str, part: &'a str) -> Result<TensorName<'a>, String> {
    let mut segments = part.split('.');
    let kind = segments.next().unwrap_or_default();
    let rest: Vec<&str> = segments.collect();
    if kind.starts_with("lora_embedding_") {
        return Err("a pair on an embedding is not supported; Souk adapts linear modules and norms".to_owned());
    }
    if rest.last() == Some(&"bias") {
        return Err("a bias of a pair (lora_bias) is not supported".to_owned());
    }
    let adapter = match (kind, &rest[..]) {
        ("lora_A" | "lora_B", ["weight"]) | ("lora_magnitude_vector", [] | ["weight"]) => None,
        ("lora_A" | "lora_B", [name, "weight"]) | ("lora_magnitude_vector", [name] | [name, "weight"]) => Some(*name),
        _ => return Err(format!("`{part}` is not a part of an adapter that Souk knows")),
    };
    let site = ModuleSite::parse(module)
        .ok_or_else(|| format!("`{module}` is not a linear module of a llama-family base model"))?;
    let role = match kind {
        "lora_A" => TensorRole::A(site),
        "lora_B" => TensorRole::B(site),
        _ => TensorRole::Magnitude(site),
    };
    Ok(TensorName { role, adapter })
}

fn read_full(path: &str) -> Result<TensorName<'_>, String> {
    if path.ends_with(".bias") {
        return Err("biases (bias other than \"none\") are not supported".to_owned());
    }
    let module = path.strip_suffix(".weight").unwrap_or(path);
    // A live model names its copy `norm.modules_to_save.default.weight`.
    let (module, adapter) = match module.split_once(".modules_to_save.") {
        Some((module, adapter)) => (module, Some(adapter)),
        None => (module, None),
    };
    if let Some(norm) = NormSite::parse(module) {
        return Ok(TensorName { role: TensorRole::Norm(norm), adapter });
    }
    if module == "lm_head.base_layer" {
        return Ok(TensorName { role: TensorRole::HeadCopy, adapter });
    }
    let last = module.rsplit('.').next().unwrap_or_default();
    if matches!(last, "embed_tokens" | "lm_head") {
        return Err(format!(
            "a full copy of {last} is not supported, since all adapters share the base model's; save with \
             `save_embedding_layers=False` if the vocabulary was not changed"
        ));
    }
    Err("this is neither part of a pair nor a norm of the base model".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::modules::Module;
    use super::*;

    #[test]
    fn names_are_read_with_and_without_adapter_name_and_prefix() {
        let site = ModuleSite { layer: Some(3), module: Module::Q };
        let path = "model.layers.3.self_attn.q_proj";
        for (name, role, adapter) in [
            (format!("base_model.model.{path}.lora_A.weight"), TensorRole::A(site), None),
            (format!("base_model.model.{path}.lora_B.default.weight"), TensorRole::B(site), Some("default")),
            (format!("{path}.lora_A.weight"), TensorRole::A(site), None),
            (format!("base_model.model.{path}.lora_magnitude_vector"), TensorRole::Magnitude(site), None),
            (format!("base_model.model.{path}.lora_magnitude_vector.weight"), TensorRole::Magnitude(site), None),
            (format!("{path}.lora_magnitude_vector.mine"), TensorRole::Magnitude(site), Some("mine")),
            (format!("{path}.lora_magnitude_vector.mine.weight"), TensorRole::Magnitude(site), Some("mine")),
            ("base_model.model.model.norm.weight".to_owned(), TensorRole::Norm(NormSite::Final), None),
            ("base_model.model.lm_head.base_layer.weight".to_owned(), TensorRole::HeadCopy, None),
            (
                "base_model.model.model.layers.1.input_layernorm.modules_to_save.default.weight".to_owned(),
                TensorRole::Norm(NormSite::Attention(1)),
                Some("default"),
            ),
        ] {
            assert_eq!(read(&name), Ok(TensorName { role, adapter }), "{name}");
        }
    }

    #[test]
    fn what_has_no_place_is_refused_with_the_reason() {
        for (name, reason) in [
            ("base_model.model.model.embed_tokens.lora_embedding_A", "embedding"),
            ("base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta", "trainable_token_indices"),
            ("base_model.model.model.layers.0.mlp.up_proj.lora_B.bias", "lora_bias"),
            ("base_model.model.model.layers.0.mlp.up_proj.bias", "biases"),
            ("base_model.model.lm_head.weight", "full copy of lm_head"),
            ("base_model.model.model.layers.0.self_attn.c_attn.lora_A.weight", "c_attn"),
            ("base_model.model.model.layers.0.mlp.up_proj.lora_A", "lora_A"),
            ("base_model.model.model.layers.0.mlp.up_proj.lora_C.weight", "lora_C"),
            ("base_model.model.model.layers.0.mlp.up_proj.weight", "neither"),
        ] {
            let message = read(name).expect_err(name);
            assert!(message.contains(reason), "{name}: {message}");
        }
    }
}
