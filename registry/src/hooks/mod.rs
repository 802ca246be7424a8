//! Hooks: tenants' own code before and after the model.
//!
//! A hook is a name with versions, as an adapter is ([`manage`], [`versions`], [`publish`]); who may see one may attach it ([`grants`]).
//! It acts where a pipeline names it ([`pipelines`]), which is pinned to versions, checked when it is set, and resolved for
//! gateways with whatever else they ask about callers and adapters ([`resolve`]). What a tenant's hooks may read of it is its
//! settings ([`settings`]), what they may take is the operator's to say ([`limits`]); what they did and said comes back from gateways ([`told`]). What an installation begins with is put
//! there once ([`install`]).

mod bounds;
mod config_schema;
mod grants;
mod install;
mod intake;
mod limits;
mod lookup;
mod manage;
mod pipelines;
mod publish;
mod resolve;
mod rows;
mod settings;
mod steps;
mod told;
mod versions;

pub use bounds::HookBounds;
pub(crate) use grants::HookGrantDetails;
pub use install::{InstallError, OperatorsHook};
pub use intake::{
    HookDescription, HookIntake, HookReport, HookTerms, JudgedHook, NotJudged, OfferedLimit, SealedHook, SelfTest,
};
pub(crate) use limits::{HookLimitDetails, HookLimitsDetails, HookLimitsRequest};
pub(crate) use manage::{HookDetails, NewHook};
pub(crate) use pipelines::{NewStep, PipelineDetails, Target};
pub(crate) use rows::delete_rows;
pub(crate) use settings::{HookSettingsDetails, NewHookSettings};
pub(crate) use steps::StoredStep;
pub(crate) use told::{HookDay, HookLineDetails};
pub(crate) use versions::HookVersionDetails;
