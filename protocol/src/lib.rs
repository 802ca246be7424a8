//! The words that all services share: ids, references, the adapter manifest, jobs, events and the base model's
//! description. No I/O happens here: bytes come in as slices, facts go out as types.
//!
//! Begin with [`job::GenerateJob`], which is what the gateway puts on the queue, and [`event::JobEvent`], which is
//! what comes back; [`usage::Outcome`] says how a job ended and what that means for the bill. [`peft`] reads
//! adapters in the PEFT format and says everything that is wrong with one.

pub mod allowed_models;
pub mod base;
pub mod base_name;
pub mod chat;
pub mod constraint;
pub mod deadline;
pub mod digest;
pub mod event;
pub mod flights;
pub mod gate;
pub mod hooks;
pub mod identity;
pub mod ids;
pub mod internal;
pub mod job;
pub mod limits;
pub mod manifest;
pub mod peft;
pub mod recent;
pub mod reference;
pub mod sampling;
pub mod settings;
pub mod usage;
pub mod vocabulary;
pub mod wall_clock;

pub use allowed_models::{AllowedModels, ModelPattern};
pub use base::{BaseModel, LlamaShape, TokenId, TokenizerSpec};
pub use base_name::{BaseClaim, BaseName};
pub use constraint::{ConstraintLimits, ConstraintSpec};
pub use digest::Digest;
pub use event::{FinishReason, JobEvent, JobFailure, TokenLogprobs, TokenOut};
pub use hooks::{CallerHooks, HookName, HookRef, HookUse, ResolvedHooks};
pub use identity::{
    Deprived, Principal, ResolveError, ResolvedAdapter, Scope, Scopes, ServiceKind, UnknownServiceKind,
};
pub use ids::{GatewayId, HookVersionId, JobId, KeyId, NodeId, PersonId, PoolId, RequestId, TeamId, TenantId};
pub use job::{AdapterUse, Fetchable, FileGrant, GenerateJob};
pub use limits::{
    LevelLimits, Limit, LimitTree, Mode, Period, PeriodKey, Policy, Subject, Total, TotalKey, Unit, UnknownPolicy,
};
pub use manifest::{AdapterManifest, FileEntry};
pub use reference::{AdapterName, AdapterRef, ModelRef, ReferenceError, Selector};
pub use sampling::SamplingParams;
pub use usage::{Charge, JobRecord, Outcome, RequestRecord, Shadowed, Usage};
pub use vocabulary::{Vocabulary, VocabularyError};
