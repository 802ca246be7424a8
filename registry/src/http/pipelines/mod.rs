//! Pipelines: which hooks act on whose requests, in which order.

mod get_pipeline;
mod list_pipeline_history;
mod list_pipelines;
mod roll_back_pipeline;
mod set_pipeline;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use souk_protocol::Digest;
use souk_protocol::hooks::{OnFailure, Share, Standing};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::db::moment;
use crate::hooks::{PipelineDetails, StoredStep, Target};

pub(crate) use get_pipeline::*;
pub(crate) use list_pipeline_history::*;
pub(crate) use list_pipelines::*;
pub(crate) use roll_back_pipeline::*;
pub(crate) use set_pipeline::*;

/// Which target.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct TargetPath {
    /// `tenant`, `key` or `route`.
    #[param(example = "route")]
    at: String,
    /// The tenant's name, the key's id, `chat` or `completions`.
    #[param(example = "chat")]
    target: String,
}

impl TargetPath {
    fn target(&self) -> Target<'_> {
        Target::Of(&self.at, &self.target)
    }
}

/// Which version of an adapter.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct AdapterVersionPath {
    /// The tenant that owns the adapter.
    owner: String,
    /// The adapter's name.
    name: String,
    /// The version's number.
    version: String,
}

impl AdapterVersionPath {
    fn target(&self) -> Target<'_> {
        Target::Version(&self.owner, &self.name, &self.version)
    }
}

/// What becomes of a request whose hook fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Failing {
    /// It fails, too: 502 `hook_failed`.
    #[default]
    FailClosed,
    /// It goes on as if the hook were not there.
    Skip,
}

/// The requests that a step acts on, by a lot from 0 to 99 that a stable hash of the hook's name and of who asks draws.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LotShare {
    /// The least lot; 0 if absent.
    #[serde(default)]
    #[schema(example = 0)]
    from: u8,
    /// The least lot that is not in it any more, at most 100. Two steps of one hook draw the same lots, so that 0 to 10 of one
    /// version and 10 to 100 of another part the requests.
    #[schema(example = 100)]
    below: u8,
}

/// Whether a step's hook may run.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StepStanding {
    /// It may.
    Callable,
    /// Its owner lets the tenant use it no more, or deleted it; it fails as the step says.
    NotGranted,
    /// It was taken down; it fails as the step says.
    TakenDown,
}

/// A pipeline.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Pipeline {
    /// Where it hangs: `tenant`, `key`, `route` or `version`.
    at: String,
    /// Which: a tenant's name, a key's id, `chat` or `completions`, `owner/name@version`.
    target: String,
    /// Which change of the target it is; 0 if nothing was ever set.
    number: i64,
    /// In the order in which they act on a prompt; on answers they act in reverse.
    steps: Vec<PipelineStep>,
    /// The number that it was rolled back to; null if it was not.
    restored: Option<i64>,
    /// The key or session that set it; null if nothing was ever set.
    made_by: Option<String>,
    /// When it was set; null if nothing was ever set.
    #[serde(with = "time::serde::rfc3339::option")]
    made_at: Option<OffsetDateTime>,
}

/// A step of a pipeline.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PipelineStep {
    /// `owner/name`.
    hook: String,
    /// The version that it is pinned to.
    version: String,
    /// That version's digest.
    digest: String,
    /// How the hook is configured here.
    #[schema(value_type = Object)]
    config: Value,
    /// What becomes of a request if it fails.
    on_failure: Failing,
    /// Which requests it acts on.
    share: LotShare,
    /// Whether it may run now.
    standing: StepStanding,
}

impl From<PipelineDetails> for Pipeline {
    fn from(PipelineDetails { at, target, row, steps }: PipelineDetails) -> Self {
        Self {
            at,
            target,
            number: row.as_ref().map_or(0, |row| row.number),
            steps: steps.into_iter().map(PipelineStep::from).collect(),
            restored: row.as_ref().and_then(|row| row.restored),
            made_at: row.as_ref().map(|row| moment(row.made_at_ms)),
            made_by: row.map(|row| row.made_by),
        }
    }
}

impl From<(StoredStep, Standing, Digest)> for PipelineStep {
    fn from((step, standing, digest): (StoredStep, Standing, Digest)) -> Self {
        Self {
            hook: step.hook.to_string(),
            version: step.version.to_string(),
            digest: digest.to_string(),
            config: step.config,
            on_failure: match step.on_failure {
                OnFailure::FailClosed => Failing::FailClosed,
                OnFailure::Skip => Failing::Skip,
            },
            share: LotShare { from: step.share.from, below: step.share.below },
            standing: match standing {
                Standing::Callable => StepStanding::Callable,
                Standing::NotGranted => StepStanding::NotGranted,
                Standing::TakenDown => StepStanding::TakenDown,
            },
        }
    }
}

impl From<Failing> for OnFailure {
    fn from(failing: Failing) -> Self {
        match failing {
            Failing::FailClosed => Self::FailClosed,
            Failing::Skip => Self::Skip,
        }
    }
}

impl From<LotShare> for Share {
    fn from(share: LotShare) -> Self {
        Self { from: share.from, below: share.below }
    }
}
