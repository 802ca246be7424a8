//! What a tenant says of its keys.

mod get_policy;
mod set_policy;

use serde::{Deserialize, Serialize};
use souk_protocol::Scope;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::db::moment;
use crate::keys;

pub(crate) use get_policy::*;
pub(crate) use set_policy::*;

/// Whose policy.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PolicyQuery {
    /// A tenant's name; absent for the caller's own. Naming another takes the scope `admin`.
    tenant: Option<String>,
}

/// What a tenant says of its keys.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Policy {
    /// Days that a key lives at most; null for no bound.
    max_key_days: Option<i64>,
    /// What keys may do; null for whatever their makers may.
    #[schema(example = json!(["inference", "adapters:read"]))]
    scopes: Option<Vec<&'static str>>,
    /// Whether persons may have keys of their own.
    personal_keys: bool,
    /// When it was set; null if it never was.
    #[serde(with = "time::serde::rfc3339::option")]
    updated_at: Option<OffsetDateTime>,
}

impl From<keys::Policy> for Policy {
    fn from(policy: keys::Policy) -> Self {
        Self {
            max_key_days: policy.max_days,
            scopes: policy.scopes.map(|scopes| scopes.into_iter().map(Scope::as_str).collect()),
            personal_keys: policy.personal_keys,
            updated_at: policy.updated_at_ms.map(moment),
        }
    }
}
