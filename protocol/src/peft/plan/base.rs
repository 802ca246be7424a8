//! What a configuration says by itself against a base model: which one it is for, and which parts of it.

use super::super::config::LoraConfig;
use super::super::modules::{ModuleSite, NormSite};
use super::super::problem::{ProblemCode, ProblemList, clip};
use super::super::selector::ends_with_segment;
use crate::BaseModel;
use crate::base_name::{BaseClaim, BaseName, states};
use crate::manifest::CONFIG_FILE;

/// Adds what the configuration means that the base does not have.
pub(super) fn check_config(config: &LoraConfig, base: &BaseModel, problems: &mut ProblemList) {
    let num_layers = base.shape.num_layers;
    for layer in config.layers.iter().flat_map(|filter| &filter.layers).filter(|&&layer| layer >= num_layers) {
        let message = format!("the base model has layers 0 to {}, given {layer}", num_layers.saturating_sub(1));
        problems.add(ProblemCode::LayerOutOfRange, "layers_to_transform", message);
    }
    let vocab_size = base.shape.vocab_size;
    if let Some(token) = config.invocation_tokens.iter().find(|token| **token as usize >= vocab_size) {
        let message = format!("the base model has {vocab_size} tokens, given {token}");
        problems.add(ProblemCode::FieldInvalid, "alora_invocation_tokens", message);
    }
    if config.targets("model.embed_tokens") {
        let message = "model.embed_tokens cannot be adapted; leave it out of the targets or exclude it";
        problems.add(ProblemCode::UnsupportedOption, "target_modules", message);
    }
    let targets_head = config.targets("lm_head");
    if config.ensure_weight_tying && targets_head && base.shape.tie_word_embeddings {
        let message = "with lm_head as a target it adapts the tied token embeddings too, which is not supported";
        problems.add(ProblemCode::UnsupportedOption, "ensure_weight_tying", message);
    }
    for name in &config.norms_to_save {
        let matches = |site: NormSite| {
            let path = site.to_string();
            path == *name || ends_with_segment(&path, name)
        };
        let is_norm = NormSite::NAMES.iter().any(|last| name.rsplit('.').next() == Some(last));
        if is_norm && !NormSite::all(&base.shape).any(matches) {
            let message = format!("the base model has no norm `{}`", clip(name, 200));
            problems.add(ProblemCode::FieldInvalid, "modules_to_save", message);
        }
    }
    let has_target = ModuleSite::all(&base.shape).any(|site| config.targets(&site.to_string()));
    if !has_target && config.norms_to_save.is_empty() {
        let message = "target_modules matches no linear module of the base model, so the adapter has no effect";
        problems.add(ProblemCode::NoEffect, CONFIG_FILE, message);
    }
}

/// Whether the adapter is for `base`, by its own word, the publisher's, or neither where the shapes have to tell.
pub(super) fn check_name(given: Option<&str>, base: &BaseModel, claim: BaseClaim<'_>, problems: &mut ProblemList) {
    let aliases = if base.aliases.is_empty() { String::new() } else { format!(" ({})", base.aliases.join(", ")) };
    let here = format!("the base model here is `{}`{aliases}", base.id);
    if let BaseClaim::Stated(stated) = claim
        && !states(stated, base)
    {
        let message = format!("expected a base model that is served here, given `{}`; {here}", clip(stated, 200));
        problems.add(ProblemCode::WrongBase, "base", message);
        return;
    }
    let Some(given) = given else { return };
    let read = BaseName::read(given);
    if read.names(base) {
        return;
    }
    let subject = "base_model_name_or_path";
    let given = clip(given, 200);
    if !read.is_silent() {
        let read = clip(read.as_str(), 200);
        let overruled = match claim {
            BaseClaim::Stated(_) => {
                "; what the publisher states does not overrule it: if it is the same model under \
                                     another name, correct the configuration"
            }
            BaseClaim::Unstated | BaseClaim::Settled => "",
        };
        let message = format!(
            "the adapter was made for `{given}` (read as `{read}`), {here}; on another base its answers would be \
             wrong{overruled}"
        );
        problems.add(ProblemCode::WrongBase, subject, message);
    } else if claim == BaseClaim::Unstated {
        let message = format!(
            "`{given}` does not tell which base model the adapter was made for, {here}; if that is the one, publish it \
             with the field `base` (`souk push --base {}`)",
            base.id
        );
        problems.add(ProblemCode::BaseNotNamed, subject, message);
    }
}
