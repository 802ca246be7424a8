//! What tenants, teams, members and keys may use in a period.

mod get_limits;
mod list_limits;
mod set_answers;
mod set_limits;
mod set_tenant_limits;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use souk_protocol::limits::{Limit, Mode, PeriodKey, Policy};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::db::{moment, now_ms};
use crate::limits::{self, LimitRequest, LimitsRequest};

pub(crate) use get_limits::*;
pub(crate) use list_limits::*;
pub(crate) use set_answers::*;
pub(crate) use set_limits::*;
pub(crate) use set_tenant_limits::*;

/// Whose limits.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct SubjectPath {
    /// `team`, `member` or `key`.
    level: String,
    /// The id of the team, the person or the key.
    subject: String,
}

/// The limits of a tenant, or of something of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SubjectLimits {
    /// `tenant`, `team`, `member` or `key`.
    level: &'static str,
    /// The id of the tenant, the team, the person or the key.
    subject: String,
    /// The tenant's name; null at other levels.
    name: Option<String>,
    /// What is limited, by name: `requests_per_minute`, `input_tokens_per_minute`, `output_tokens_per_minute`,
    /// `tokens_per_day`, `tokens_per_month`, `training_tokens_per_month`, `versions_per_day`. What is not in here is not
    /// limited at this level.
    limits: BTreeMap<&'static str, ShownLimit>,
    /// What is the tenant's alone; null at other levels.
    tenant: Option<OfTenantAlone>,
}

/// A limit.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ShownLimit {
    /// Most that may be used in its period. 0: nothing that costs anything.
    value: u64,
    /// From where it is told, and nothing refused; null for nowhere.
    soft: Option<u64>,
    /// Whether it refuses.
    mode: LimitMode,
    /// Whether it is the installation's default, since the tenant has none of its own.
    is_default: bool,
    /// What is used of it in this day or month, without what requests under way hold; null for what is counted by the minute.
    used: Option<u64>,
    /// When its day or month is over, and the next begins; null for what is counted by the minute.
    #[serde(with = "time::serde::rfc3339::option")]
    resets_at: Option<OffsetDateTime>,
}

/// Whether a limit refuses.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LimitMode {
    /// What goes beyond it is refused.
    Enforce,
    /// What goes beyond it is let in, counted and told.
    Shadow,
}

/// What is a tenant's alone beside its limits.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OfTenantAlone {
    /// What it gets of what is shared out, beside others of which each has 1.
    gate_weight: u32,
    /// Most tokens of one answer, at all and where a request says nothing; null for what the context leaves.
    output_ceiling: Option<u32>,
    /// Whether whole answers to requests with an `Idempotency-Key` are kept for a day, to be given again.
    keeps_answers: bool,
}

/// A limit to be set in the place of the one before.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewLimit {
    /// Most that may be used in its period: a whole number from 0 to 1,000,000,000,000,000, of what is counted by the minute to
    /// 100,000,000,000.
    #[schema(value_type = u64, example = 100_000)]
    value: Value,
    /// From where it is told, and nothing refused: up to `value`; null or absent for nowhere. Only what is counted by the day or
    /// the month has one.
    #[serde(default)]
    #[schema(value_type = Option<u64>, example = 80_000)]
    soft: Option<Value>,
    /// `enforce`, or `shadow` for one that counts and tells and refuses nothing; absent for `enforce`.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "enforce")]
    mode: Option<Value>,
}

/// A limit to be set, or null to take the one there is away.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(transparent)]
pub(crate) struct LimitChange(Option<NewLimit>);

/// Limits as a body has them, for the rules.
fn asked(limits: BTreeMap<String, LimitChange>) -> LimitsRequest {
    let one = |NewLimit { value, soft, mode }| LimitRequest { value, soft, mode };
    limits.into_iter().map(|(name, LimitChange(limit))| (name, limit.map(one))).collect()
}

/// A field that may be null and is there.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl From<limits::SubjectLimits> for SubjectLimits {
    fn from(shown: limits::SubjectLimits) -> Self {
        let limits = shown.level.limits.iter().map(|(policy, limit)| {
            let is_default = shown.defaults.contains(policy);
            (policy.as_str(), ShownLimit::of(*policy, *limit, is_default, shown.used.get(policy).copied()))
        });
        Self {
            level: shown.level.subject.level(),
            subject: shown.level.subject.id().to_owned(),
            limits: limits.collect(),
            name: shown.name,
            tenant: shown.tenant.map(|of| OfTenantAlone {
                gate_weight: of.gate_weight,
                output_ceiling: of.output_ceiling,
                keeps_answers: of.keeps_answers,
            }),
        }
    }
}

impl ShownLimit {
    fn of(policy: Policy, limit: Limit, is_default: bool, used: Option<u64>) -> Self {
        let period = PeriodKey::of(policy, u64::try_from(now_ms()).unwrap_or_default());
        Self {
            value: limit.value,
            soft: limit.soft,
            mode: match limit.mode {
                Mode::Enforce => LimitMode::Enforce,
                Mode::Shadow => LimitMode::Shadow,
            },
            is_default,
            used,
            resets_at: period.map(|period| moment(i64::try_from(period.ends_at_ms()).unwrap_or(i64::MAX))),
        }
    }
}
