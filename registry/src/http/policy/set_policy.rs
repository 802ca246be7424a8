use axum::Json;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Policy, PolicyQuery};
use crate::error::RegistryError;
use crate::http::keys::Key;
use crate::http::page::{MAX_NAME_CHARS, check_length};
use crate::http::{Body, Caller, Problems, QueryOf, Serving};
use crate::keys::{Breaking, NewPolicy, Rule};

/// Most keys that an answer lists.
const MAX_LISTED: usize = 1000;

/// A policy in the place of the one before.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetPolicy {
    /// Days that a key lives at most, 1 to 3,650; null or absent for no bound.
    #[schema(example = 90)]
    max_key_days: Option<i64>,
    /// What keys may do; null or absent for whatever their makers may.
    #[schema(example = json!(["inference", "adapters:read"]))]
    scopes: Option<Vec<String>>,
    /// Whether persons may have keys of their own; absent for yes.
    #[serde(default = "yes")]
    personal_keys: bool,
    /// Whether keys that break the policy end now; absent for no: they are listed.
    #[serde(default)]
    end_breaking: bool,
}

/// A policy that holds from now on.
#[derive(Serialize, ToSchema)]
pub(crate) struct PolicySet {
    /// The policy.
    #[serde(flatten)]
    policy: Policy,
    /// Whether the keys below were revoked.
    ended: bool,
    /// How many usable keys break it.
    num_breaking: usize,
    /// Those keys, by id; at most 1,000.
    breaking: Vec<BreakingKey>,
}

/// A key that could not be made under the policy.
#[derive(Serialize, ToSchema)]
pub(crate) struct BreakingKey {
    /// As it was before it was revoked, if it was.
    #[serde(flatten)]
    key: Key,
    /// What it breaks.
    breaks: Vec<PolicyRule>,
}

/// What a policy bounds.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PolicyRule {
    /// It lives longer.
    MaxKeyDays,
    /// It may do more.
    Scopes,
    /// It is a person's.
    PersonalKeys,
}

/// Sets what the tenant says of its keys, for all that are made or rotated from now on, and lists those that break it.
///
/// Scope: `tenant:manage`. With `end_breaking` those keys are revoked, and what was made with them stays; where the caller's
/// own key is among them this answers 409 `own_key_against_policy` and changes nothing. Admin keys are not bound by it.
#[utoipa::path(
    put, path = "/policy", tag = "keys",
    params(PolicyQuery),
    request_body = SetPolicy,
    responses((status = 200, description = "The policy, and the keys that break it", body = PolicySet), Problems)
)]
pub(crate) async fn set_policy(
    Serving(registry): Serving,
    caller: Caller,
    QueryOf(query): QueryOf<PolicyQuery>,
    Body(request): Body<SetPolicy>,
) -> Result<Json<PolicySet>, RegistryError> {
    check_length("tenant", query.tenant.as_deref(), MAX_NAME_CHARS)?;
    let SetPolicy { max_key_days, scopes, personal_keys, end_breaking } = request;
    let new = NewPolicy { max_days: max_key_days, scopes, personal_keys };
    let set = registry.set_policy(&caller.0, query.tenant.as_deref(), new, end_breaking).await?;
    Ok(Json(PolicySet {
        policy: set.policy.into(),
        ended: set.are_ended,
        num_breaking: set.breaking.len(),
        breaking: set.breaking.into_iter().take(MAX_LISTED).map(BreakingKey::from).collect(),
    }))
}

const fn yes() -> bool {
    true
}

impl From<Breaking> for BreakingKey {
    fn from(Breaking { key, rules }: Breaking) -> Self {
        Self { key: key.into(), breaks: rules.into_iter().map(PolicyRule::from).collect() }
    }
}

impl From<Rule> for PolicyRule {
    fn from(rule: Rule) -> Self {
        match rule {
            Rule::Life => Self::MaxKeyDays,
            Rule::Scopes => Self::Scopes,
            Rule::Person => Self::PersonalKeys,
        }
    }
}
