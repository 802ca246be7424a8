//! What a tenant used. docs/usage.md is the page for callers.

mod export_usage;
mod get_usage;
mod get_usage_request;
mod list_usage_requests;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use souk_protocol::hooks::HookUse;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::db::usage_reading::Sums;
use crate::db::{UsageJobRow, moment};
use crate::error::RegistryError;
use crate::http::page::{MAX_NAME_CHARS, check_length};
use crate::usage::read::{Asked, Names, UsedRequest, digests, hooks_of, rule_of};

pub(crate) use export_usage::*;
pub(crate) use get_usage::*;
pub(crate) use get_usage_request::*;
pub(crate) use list_usage_requests::*;

/// Which requests, and which page of them.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RequestsPage {
    /// A tenant's name; absent for the caller's own. Naming another takes the scope `admin`.
    tenant: Option<String>,
    /// A day, a month or a moment of UTC from which on they were admitted; absent: the month in which `to` lies.
    from: Option<String>,
    /// And before which; absent: now.
    to: Option<String>,
    /// Only those with this key or session, by its id.
    key: Option<String>,
    /// Only those of this member, by the person's id.
    member: Option<String>,
    /// Only those bound by this team's limits, by its id.
    team: Option<String>,
    /// Only those on which this adapter acted: `owner/name`, `owner/name@version`, or a version's digest.
    adapter: Option<String>,
    /// Only those of this base model, by its id or its digest.
    base: Option<String>,
    /// Only those of which a job ended so.
    outcome: Option<String>,
    /// Items per page, 1 to 100; 20 if absent.
    limit: Option<u64>,
    /// `next_cursor` of the page before; absent for the first page.
    cursor: Option<String>,
}

impl RequestsPage {
    fn asked(&self) -> Result<Asked, RegistryError> {
        check_length("tenant", self.tenant.as_deref(), MAX_NAME_CHARS)?;
        let Self { tenant, from, to, key, member, team, adapter, base, outcome, .. } = self;
        let [tenant, from, to] = [tenant, from, to].map(Clone::clone);
        let [key, member, team] = [key, member, team].map(Clone::clone);
        let [adapter, base, outcome] = [adapter, base, outcome].map(Clone::clone);
        Ok(Asked { tenant, from, to, key, member, team, adapter, base, outcome })
    }
}

/// A request that was queued, and what it was charged.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageRequest {
    /// As the answer's header `x-request-id` said it.
    id: String,
    /// The key or session.
    key_id: String,
    /// Its name now.
    key_name: Option<String>,
    /// Whose it is; null for a service's key.
    member_id: Option<String>,
    /// The member's address, for callers with the scope `tenant:manage`.
    member_email: Option<String>,
    /// The team whose limits bound it.
    team_id: Option<String>,
    /// Its name now.
    team_name: Option<String>,
    /// What was asked for.
    #[schema(example = "chat.completion")]
    operation: String,
    /// What the caller wrote in `model`.
    model: String,
    /// The moment whose day and month it counts in.
    #[serde(with = "time::serde::rfc3339")]
    admitted_at: OffsetDateTime,
    /// When its last job had ended.
    #[serde(with = "time::serde::rfc3339")]
    ended_at: OffsetDateTime,
    /// Tokens of prompts that are charged, all jobs together.
    charged_input_tokens: i64,
    /// Tokens of answers that are charged.
    charged_output_tokens: i64,
    /// Limits in shadow mode that would have refused it.
    #[schema(value_type = Vec<Object>)]
    shadowed: Value,
    /// What hooks did in it.
    hooks: Vec<UsageHook>,
    /// Its jobs: one for each answer that was asked for.
    jobs: Vec<UsageJob>,
}

/// One answer of a request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageJob {
    /// Which, from 0.
    index: i64,
    /// Digest of the base model.
    base: String,
    /// Its id.
    base_name: Option<String>,
    /// The adapters that acted, in their order.
    adapters: Vec<UsageAdapter>,
    /// How it ended.
    outcome: String,
    /// Tokens of the prompt.
    prompt_tokens: i64,
    /// Of them, those that did not have to be read again.
    cached_tokens: i64,
    /// Tokens of the answer that were computed.
    computed_tokens: i64,
    /// Of them, those that were handed to the caller.
    delivered_tokens: i64,
    /// Tokens of the prompt that are charged.
    charged_input_tokens: i64,
    /// Tokens of the answer that are charged.
    charged_output_tokens: i64,
    /// Why that is what is charged.
    rule: String,
    /// How often a node was given it.
    attempts: i64,
    /// Milliseconds to the first token; null without one.
    first_token_ms: Option<i64>,
    /// Milliseconds to its end.
    took_ms: i64,
}

/// A version of an adapter that acted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageAdapter {
    /// The version's digest.
    digest: String,
    /// `owner/name@version`, as far as the tenant may see it now.
    name: Option<String>,
}

/// What a version of a hook did in a request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageHook {
    /// The version's id.
    version: String,
    /// `owner/name@version`, as far as the tenant may see it now.
    #[schema(example = "acme/mask@1.0.0")]
    name: Option<String>,
    /// How often it was called: once for a prompt, for each answer, for each stream.
    calls: u32,
    /// How often it failed.
    failures: u32,
    /// How often the request went on although it had failed.
    skipped: u32,
    /// How often it refused.
    refusals: u32,
    /// Fuel that it used.
    fuel: u64,
    /// Processor time that it used, in microseconds.
    processor_us: u64,
}

/// What was used, summed up.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageSums {
    /// Requests.
    requests: i64,
    /// Jobs: a request has one for each answer that was asked for.
    jobs: i64,
    /// Tokens of prompts.
    prompt_tokens: i64,
    /// Of them, those that did not have to be read again.
    cached_tokens: i64,
    /// Tokens of answers that were computed.
    computed_tokens: i64,
    /// Of them, those that were handed to the caller.
    delivered_tokens: i64,
    /// Tokens of prompts that are charged.
    charged_input_tokens: i64,
    /// Tokens of answers that are charged.
    charged_output_tokens: i64,
}

impl From<Sums> for UsageSums {
    fn from(sums: Sums) -> Self {
        Self {
            requests: sums.requests,
            jobs: sums.jobs,
            prompt_tokens: sums.prompt_tokens,
            cached_tokens: sums.cached_tokens,
            computed_tokens: sums.computed_tokens,
            delivered_tokens: sums.delivered_tokens,
            charged_input_tokens: sums.charged_input_tokens,
            charged_output_tokens: sums.charged_output_tokens,
        }
    }
}

impl UsageRequest {
    fn new(UsedRequest { row, jobs }: UsedRequest, names: &Names) -> Self {
        let hooks = hooks_of(&row).into_iter().map(|used| UsageHook::new(used, names)).collect();
        Self {
            key_name: names.keys.get(&row.key_id).cloned(),
            member_email: row.person_id.as_ref().and_then(|id| names.emails.get(id)).cloned(),
            team_name: row.team_id.as_ref().and_then(|id| names.teams.get(id)).cloned(),
            id: row.id,
            key_id: row.key_id,
            member_id: row.person_id,
            team_id: row.team_id,
            operation: row.operation,
            model: row.model,
            admitted_at: moment(row.admitted_at_ms),
            ended_at: moment(row.ended_at_ms),
            charged_input_tokens: row.charged_input_tokens,
            charged_output_tokens: row.charged_output_tokens,
            shadowed: serde_json::from_str(&row.shadowed).unwrap_or_default(),
            hooks,
            jobs: jobs.into_iter().map(|job| UsageJob::new(job, names)).collect(),
        }
    }
}

impl UsageHook {
    fn new(used: HookUse, names: &Names) -> Self {
        let HookUse { version, calls, failures, skipped, refusals, fuel, processor_us } = used;
        let (version, name) = (version.to_string(), names.hooks.get(version.as_str()).cloned());
        Self { version, name, calls, failures, skipped, refusals, fuel, processor_us }
    }
}

impl UsageJob {
    fn new(row: UsageJobRow, names: &Names) -> Self {
        Self {
            rule: rule_of(&row),
            base_name: names.bases.get(&row.base).cloned(),
            adapters: adapters_of(&row.adapters, names),
            index: row.job_index,
            base: row.base,
            outcome: row.outcome,
            prompt_tokens: row.prompt_tokens,
            cached_tokens: row.cached_tokens,
            computed_tokens: row.computed_tokens,
            delivered_tokens: row.delivered_tokens,
            charged_input_tokens: row.charged_input_tokens,
            charged_output_tokens: row.charged_output_tokens,
            attempts: row.attempts,
            first_token_ms: row.first_token_ms,
            took_ms: row.took_ms,
        }
    }
}

fn adapters_of(column: &str, names: &Names) -> Vec<UsageAdapter> {
    let named = |digest: String| UsageAdapter { name: names.adapters.get(&digest).cloned(), digest };
    digests(column).into_iter().map(named).collect()
}
