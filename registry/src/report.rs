//! What a version's publisher and its callers should know of it: kept with the version, shown with it.

use serde::{Deserialize, Serialize};
use souk_protocol::peft::{Effect, ModuleEffect, Problem};
use utoipa::ToSchema;

use crate::error::code_name;

/// What was found when the version was published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct VersionReport {
    /// The base model, by all its names.
    pub(crate) base: BaseReport,
    /// What the weights change.
    pub(crate) effect: EffectReport,
    /// By which chat template it is talked to.
    pub(crate) chat_template: TemplateUse,
    /// Files of the publisher's folder that were not sent, as the publisher says.
    pub(crate) left_out: Vec<String>,
    /// What does not keep it from being served, and may not be meant.
    pub(crate) warnings: Vec<Warning>,
}

/// Which base model the adapter is for, and what says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct BaseReport {
    /// The base model's id here.
    pub(crate) id: String,
    /// `base_model_name_or_path` of the configuration.
    pub(crate) given: Option<String>,
    /// How that name is read: in lower case, without organisation, revision, precision and format.
    pub(crate) read_as: Option<String>,
    /// The publisher's own word, the part `base`.
    pub(crate) stated: Option<String>,
}

/// How much the adapter changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct EffectReport {
    /// Low-rank pairs, one for each module.
    pub(crate) num_pairs: usize,
    /// Pairs whose product vanishes: they change nothing.
    pub(crate) num_dead: usize,
    /// Norms that are replaced.
    pub(crate) num_norms: usize,
    /// The pairs by kind of module.
    pub(crate) modules: Vec<ModuleReport>,
}

/// The pairs on one kind of module, in all layers together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ModuleReport {
    /// For example `self_attn.q_proj`.
    pub(crate) module: String,
    /// How many pairs there are.
    pub(crate) num_pairs: usize,
    /// How many of them change nothing.
    pub(crate) num_dead: usize,
    /// Lowest rank.
    pub(crate) min_rank: usize,
    /// Highest rank.
    pub(crate) max_rank: usize,
    /// Smallest Frobenius norm of `scale * B A`.
    pub(crate) min_norm: f64,
    /// Middle norm.
    pub(crate) median_norm: f64,
    /// Largest norm.
    pub(crate) max_norm: f64,
}

/// By which chat template a version is talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TemplateUse {
    /// Its own, the file `chat_template.jinja` of the version.
    Own,
    /// The base model's; the version brought the same one.
    SameAsBase,
    /// The base model's; the version brought none.
    Base,
}

/// Something that may not be meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Warning {
    /// Stable name, for programs.
    pub(crate) code: String,
    /// The file or part that it concerns.
    pub(crate) subject: String,
    /// A sentence.
    pub(crate) message: String,
}

impl EffectReport {
    pub(crate) fn of(effect: &Effect) -> Self {
        Self {
            num_pairs: effect.pairs.len(),
            num_dead: effect.dead().count(),
            num_norms: effect.num_norms,
            modules: effect.by_module().iter().map(ModuleReport::of).collect(),
        }
    }
}

impl ModuleReport {
    fn of(effect: &ModuleEffect) -> Self {
        let (min_norm, median_norm, max_norm) = effect.norms;
        Self {
            module: effect.module.name().to_owned(),
            num_pairs: effect.num_pairs,
            num_dead: effect.num_dead,
            min_rank: effect.ranks.0,
            max_rank: effect.ranks.1,
            min_norm: shortened(min_norm),
            median_norm: shortened(median_norm),
            max_norm: shortened(max_norm),
        }
    }
}

impl From<Problem> for Warning {
    fn from(problem: Problem) -> Self {
        Self { code: code_name(problem.code), subject: problem.subject, message: problem.message }
    }
}

/// Six digits are more than anybody compares.
fn shortened(norm: f64) -> f64 {
    format!("{norm:.5e}").parse().unwrap_or(norm)
}
