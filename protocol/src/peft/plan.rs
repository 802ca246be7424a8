//! Judges an adapter against a base model. What passes needs no further check of shape or meaning.

mod base;

use std::collections::BTreeMap;

use super::MAX_RANK;
use super::config::LoraConfig;
use super::modules::{Module, ModuleSite, NormSite};
use super::names::{self, TensorRole};
use super::problem::{ProblemCode, ProblemList, Problems, clip};
use super::tensors::{TensorEntry, TensorHeader};
use crate::base_name::BaseClaim;
use crate::manifest::WEIGHTS_FILE;
use crate::{BaseModel, LlamaShape, TokenId};

/// What an adapter does to a base model, and where in the weights file the numbers are.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterPlan {
    /// Low-rank pairs, layer by layer in the order of [`Module::OF_LAYER`], the output head last.
    pub pairs: Vec<PairPlan>,
    /// Norms that are replaced.
    pub norms: Vec<NormPlan>,
    /// The output head as the adapter's author had it, `[vocab_size, hidden_size]`. PEFT saves it along with a pair on
    /// the head; it was frozen in training, so it is no part of the adapter but can tell a wrong base.
    pub head_copy: Option<TensorEntry>,
    /// The adapter acts from the last occurrence of these tokens in the prompt on, from the first of them, and not at
    /// all where the prompt does not have them; empty: it always acts. All are in the base's vocabulary.
    pub invocation_tokens: Vec<TokenId>,
    /// Offset of the data section in the weights file; tensor ranges count from there.
    pub data_start: u64,
}

/// One low-rank pair: the module's output becomes `W x + scale * B (A x)`, or with a magnitude `m`
/// `m * (W x + scale * B (A x)) / |rows of W + scale * B A|`.
#[derive(Clone, Debug, PartialEq)]
pub struct PairPlan {
    /// The layer and module whose output it changes.
    pub site: ModuleSite,
    /// Inner width; 1 to [`MAX_RANK`].
    pub rank: usize,
    /// Factor on the product; finite.
    pub scale: f32,
    /// `[rank, in_features]`.
    pub a: TensorEntry,
    /// `[out_features, rank]`.
    pub b: TensorEntry,
    /// DoRA's magnitudes, `out_features` elements.
    pub magnitude: Option<TensorEntry>,
}

/// One norm whose weights are replaced.
#[derive(Clone, Debug, PartialEq)]
pub struct NormPlan {
    /// The layer and norm, or the last norm.
    pub site: NormSite,
    /// `[hidden_size]`.
    pub weights: TensorEntry,
}

impl AdapterPlan {
    /// Checks an adapter in full, the numbers themselves excepted: `config` is all of `adapter_config.json`,
    /// `weights_start` the first bytes of `adapter_model.safetensors` (as many as [`TensorHeader::bytes_needed`]
    /// says, or more) and `weights_len` the length of that file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn check(config: &[u8], weights_start: &[u8], weights_len: u64, base: &BaseModel) -> Result<Self, Problems> {
        Self::check_claimed(config, weights_start, weights_len, base, BaseClaim::Unstated)
    }

    pub(super) fn check_claimed(
        config: &[u8],
        weights_start: &[u8],
        weights_len: u64,
        base: &BaseModel,
        claim: BaseClaim<'_>,
    ) -> Result<Self, Problems> {
        let mut problems = ProblemList::default();
        let config = LoraConfig::read(config, &mut problems);
        match TensorHeader::parse(weights_start) {
            Ok(header) => {
                if let Err(problem) = header.check_file_len(weights_len) {
                    problems.push(problem);
                }
                let plan = Self::match_up(config.as_ref(), &header, base, claim, &mut problems);
                problems.into_result(plan)
            }
            Err(header_problems) => {
                if let Some(config) = &config {
                    base::check_name(config.base_model.as_deref(), base, claim, &mut problems);
                    if config.check_steps(&base.shape, &mut problems) {
                        base::check_config(config, base, &mut problems);
                    }
                }
                problems.append(header_problems);
                Err(problems.into_problems().expect("a header that cannot be read has a problem"))
            }
        }
    }

    /// Compares configuration, tensors and base. Without a readable configuration the tensors alone are judged.
    pub(super) fn match_up(
        config: Option<&LoraConfig>,
        header: &TensorHeader,
        base: &BaseModel,
        claim: BaseClaim<'_>,
        problems: &mut ProblemList,
    ) -> Self {
        if let Some(config) = config {
            base::check_name(config.base_model.as_deref(), base, claim, problems);
        }
        // Without its patterns a configuration does not say which tensors it means.
        let config = config.filter(|config| config.check_steps(&base.shape, problems));
        let tensors = Slots::collect(header, &base.shape, problems);
        let mut plan = Self {
            pairs: Vec::new(),
            norms: Vec::new(),
            head_copy: None,
            invocation_tokens: Vec::new(),
            data_start: header.data_start,
        };
        if let Some(config) = config {
            plan.invocation_tokens.clone_from(&config.invocation_tokens);
            base::check_config(config, base, problems);
        }
        for site in ModuleSite::all(&base.shape) {
            plan.pairs.extend(match_pair(site, config, tensors.pairs.get(&site), &base.shape, problems));
        }
        for site in NormSite::all(&base.shape) {
            plan.norms.extend(match_norm(site, config, tensors.norms.get(&site), &base.shape, problems));
        }
        plan.head_copy = match_head_copy(config, tensors.head_copy.as_ref(), &base.shape, problems);
        if tensors.pairs.is_empty() && tensors.norms.is_empty() {
            problems.add(ProblemCode::NoEffect, WEIGHTS_FILE, "it has no tensor that changes the base model");
        }
        plan
    }
}

/// The tensors of one module as they were found.
#[derive(Default)]
struct PairTensors {
    a: Option<TensorEntry>,
    b: Option<TensorEntry>,
    magnitude: Option<TensorEntry>,
}

/// Tensors by their place in the model.
#[derive(Default)]
struct Slots {
    pairs: BTreeMap<ModuleSite, PairTensors>,
    norms: BTreeMap<NormSite, TensorEntry>,
    head_copy: Option<TensorEntry>,
}

impl Slots {
    fn collect(header: &TensorHeader, shape: &LlamaShape, problems: &mut ProblemList) -> Self {
        let mut slots = Self::default();
        let mut adapters = Vec::new();
        for tensor in &header.tensors {
            match names::read(&tensor.name) {
                Ok(name) => {
                    // The head's copy is the base's and carries no adapter name.
                    if name.role != TensorRole::HeadCopy && !adapters.contains(&name.adapter) {
                        adapters.push(name.adapter);
                    }
                    slots.insert(name.role, tensor, shape, problems);
                }
                Err(reason) => problems.add(ProblemCode::UnexpectedTensor, &tensor.name, reason),
            }
        }
        if adapters.len() > 1 {
            let names: Vec<_> =
                adapters.iter().take(8).map(|name| name.map_or("no name".to_owned(), |name| clip(name, 80))).collect();
            let message = format!("its tensors belong to {} adapters ({})", adapters.len(), names.join(", "));
            problems.add(ProblemCode::UnexpectedTensor, WEIGHTS_FILE, message);
        }
        slots
    }

    fn insert(&mut self, role: TensorRole, tensor: &TensorEntry, shape: &LlamaShape, problems: &mut ProblemList) {
        let layer = match role {
            TensorRole::A(site) | TensorRole::B(site) | TensorRole::Magnitude(site) => site.layer,
            TensorRole::Norm(site) => site.layer(),
            TensorRole::HeadCopy => None,
        };
        if let Some(layer) = layer.filter(|&layer| layer >= shape.num_layers) {
            let message =
                format!("the base model has layers 0 to {}, given {layer}", shape.num_layers.saturating_sub(1));
            problems.add(ProblemCode::LayerOutOfRange, &tensor.name, message);
            return;
        }
        let replaced = match role {
            TensorRole::A(site) => self.pairs.entry(site).or_default().a.replace(tensor.clone()),
            TensorRole::B(site) => self.pairs.entry(site).or_default().b.replace(tensor.clone()),
            TensorRole::Magnitude(site) => self.pairs.entry(site).or_default().magnitude.replace(tensor.clone()),
            TensorRole::Norm(site) => self.norms.insert(site, tensor.clone()),
            TensorRole::HeadCopy => self.head_copy.replace(tensor.clone()),
        };
        if let Some(first) = replaced {
            let message = format!("`{}` is the same part of the same module", clip(&first.name, 200));
            problems.add(ProblemCode::UnexpectedTensor, &tensor.name, message);
        }
    }
}

fn match_pair(
    site: ModuleSite,
    config: Option<&LoraConfig>,
    tensors: Option<&PairTensors>,
    shape: &LlamaShape,
    problems: &mut ProblemList,
) -> Option<PairPlan> {
    let path = site.to_string();
    let wanted = config.is_none_or(|config| config.targets(&path));
    let Some(tensors) = tensors else {
        if wanted && config.is_some() {
            problems.add(ProblemCode::MissingTensor, &path, "target_modules has it and the file has no pair for it");
        }
        return None;
    };
    if !wanted {
        let message = "the file has a pair for it and target_modules (less what is excluded) does not have it";
        problems.add(ProblemCode::UnexpectedTensor, &path, message);
    }
    check_magnitude(&path, site.module, config, tensors.magnitude.as_ref(), shape, problems);
    for (part, tensor) in [("lora_A", &tensors.a), ("lora_B", &tensors.b)] {
        if tensor.is_none() {
            problems.add(ProblemCode::MissingTensor, &path, format!("the pair has no {part}.weight"));
        }
    }
    let (a, b) = (tensors.a.as_ref()?, tensors.b.as_ref()?);
    let rank = check_pair_shapes(site.module, a, b, shape, problems)?;
    let scale = match config {
        Some(config) => check_rank_and_scale(&path, rank, config, problems)?,
        None => return None,
    };
    Some(PairPlan { site, rank, scale, a: a.clone(), b: b.clone(), magnitude: tensors.magnitude.clone() })
}

fn check_magnitude(
    path: &str,
    module: Module,
    config: Option<&LoraConfig>,
    magnitude: Option<&TensorEntry>,
    shape: &LlamaShape,
    problems: &mut ProblemList,
) {
    let Some(magnitude) = magnitude else {
        if config.is_some_and(|config| config.use_dora) {
            let message = "use_dora is true and the file has no lora_magnitude_vector for it";
            problems.add(ProblemCode::MissingTensor, path, message);
        }
        return;
    };
    if config.is_some_and(|config| !config.use_dora) {
        let message = "a magnitude vector belongs to DoRA, and use_dora is false";
        problems.add(ProblemCode::UnexpectedTensor, &magnitude.name, message);
    }
    let out = module.out_features(shape);
    if !matches!(magnitude.shape[..], [n] | [n, 1] | [1, n] if n == out) {
        wrong_shape(magnitude, &format!("[{out}]"), problems);
    }
}

/// The rank of a pair whose shapes fit the module and each other.
fn check_pair_shapes(
    module: Module,
    a: &TensorEntry,
    b: &TensorEntry,
    shape: &LlamaShape,
    problems: &mut ProblemList,
) -> Option<usize> {
    let (in_features, out_features) = (module.in_features(shape), module.out_features(shape));
    let rank_a = match a.shape[..] {
        [rank, width] if width == in_features => Some(rank),
        _ => {
            wrong_shape(a, &format!("[rank, {in_features}]"), problems);
            None
        }
    };
    let rank_b = match b.shape[..] {
        [height, rank] if height == out_features => Some(rank),
        _ => {
            wrong_shape(b, &format!("[{out_features}, rank]"), problems);
            None
        }
    };
    let (rank_a, rank_b) = (rank_a?, rank_b?);
    if rank_a != rank_b {
        let message = format!("its rank is {rank_b}, that of the pair's lora_A is {rank_a}");
        problems.add(ProblemCode::RankMismatch, &b.name, message);
        return None;
    }
    if !(1..=MAX_RANK).contains(&rank_a) {
        let message = format!("expected a rank of 1 to {MAX_RANK}, given {rank_a}");
        problems.add(ProblemCode::RankRange, &a.name, message);
        return None;
    }
    Some(rank_a)
}

fn check_rank_and_scale(path: &str, rank: usize, config: &LoraConfig, problems: &mut ProblemList) -> Option<f32> {
    let expected = config.rank_of(path);
    if rank != expected {
        let message = format!("by r and rank_pattern its rank is {expected}, by the tensors' shapes {rank}");
        problems.add(ProblemCode::RankMismatch, path, message);
        return None;
    }
    // Narrowing may overflow to infinity, which is what the check is for.
    let scale = config.scale_of(path) as f32;
    if !scale.is_finite() {
        let message = format!("the scale {:e} is too large", config.scale_of(path));
        problems.add_once(ProblemCode::FieldInvalid, "lora_alpha", message);
        return None;
    }
    Some(scale)
}

fn match_norm(
    site: NormSite,
    config: Option<&LoraConfig>,
    tensor: Option<&TensorEntry>,
    shape: &LlamaShape,
    problems: &mut ProblemList,
) -> Option<NormPlan> {
    let path = site.to_string();
    let Some(tensor) = tensor else {
        if config.is_some_and(|config| config.saves_norm(&path)) {
            problems.add(ProblemCode::MissingTensor, &path, "modules_to_save has it and the file does not");
        }
        return None;
    };
    if config.is_some_and(|config| !config.may_save_norm(&path)) {
        problems.add(ProblemCode::UnexpectedTensor, &tensor.name, "modules_to_save does not have this norm");
    }
    if tensor.shape != [shape.hidden_size] {
        wrong_shape(tensor, &format!("[{}]", shape.hidden_size), problems);
        return None;
    }
    Some(NormPlan { site, weights: tensor.clone() })
}

fn match_head_copy(
    config: Option<&LoraConfig>,
    tensor: Option<&TensorEntry>,
    shape: &LlamaShape,
    problems: &mut ProblemList,
) -> Option<TensorEntry> {
    let tensor = tensor?;
    if config.is_some_and(|config| !config.targets("lm_head")) {
        let message = "a copy of the output head belongs to a pair on it, and target_modules does not have lm_head";
        problems.add(ProblemCode::UnexpectedTensor, &tensor.name, message);
    }
    if tensor.shape != [shape.vocab_size, shape.hidden_size] {
        // Another height is a resized vocabulary, whose new tokens the shared base does not have.
        wrong_shape(tensor, &format!("[{}, {}]", shape.vocab_size, shape.hidden_size), problems);
        return None;
    }
    Some(tensor.clone())
}

fn wrong_shape(tensor: &TensorEntry, expected: &str, problems: &mut ProblemList) {
    let message = format!("expected the shape {expected}, given {:?}", tensor.shape);
    problems.add(ProblemCode::WrongShape, &tensor.name, message);
}

#[cfg(test)]
mod tests;
