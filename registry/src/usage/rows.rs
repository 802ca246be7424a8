//! A record as rows, and what it adds to which sums.

use std::collections::BTreeMap;
use std::time::Duration;

use souk_protocol::hooks::MAX_STEPS;
use souk_protocol::limits::{PeriodKey, Subject, Unit};
use souk_protocol::{JobRecord, RequestRecord, TotalKey};

use super::totals::key_of;
use crate::db::hook_days::Model as HookDayRow;
use crate::db::usage_totals::Added;
use crate::db::{UsageDayRow, UsageJobRow, UsageRequestRow};
use crate::error::RegistryError;

/// Longest text of `model` that is kept; names with their owners and versions are shorter.
const MODEL_CHARS: usize = 400;
/// Longest word for an operation, an id, as the columns have them.
const OPERATION_CHARS: usize = 32;
const ID_CHARS: usize = 40;
/// Most hooks that act in one request: the steps of four pipelines, some of which name several versions.
const MAX_HOOKS: usize = 4 * MAX_STEPS;

/// Requests in the order of their ids, each once, that can be written.
pub(super) struct Batch<'a>(BTreeMap<&'a str, &'a RequestRecord>);

impl<'a> Batch<'a> {
    /// Of two records of one request, which only a mistake makes different, the first counts.
    ///
    /// # Errors
    /// `invalid_usage` for the first record that no gateway of ours makes; then none can be written.
    pub(super) fn of(requests: &'a [RequestRecord]) -> Result<Self, RegistryError> {
        let mut batch = BTreeMap::new();
        for request in requests {
            check(request).map_err(|wrong| {
                let id: String = request.request.as_str().chars().take(ID_CHARS).collect();
                RegistryError::bad_request("invalid_usage", format!("the record of request {id}: {wrong}"))
            })?;
            batch.entry(request.request.as_str()).or_insert(request);
        }
        Ok(Self(batch))
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &'a RequestRecord> {
        self.0.values().copied()
    }
}

fn check(request: &RequestRecord) -> Result<(), String> {
    let ids = [
        ("request", Some(request.request.as_str())),
        ("tenant", Some(request.tenant.as_str())),
        ("key", Some(request.key.as_str())),
        ("person", request.person.as_ref().map(|id| id.as_str())),
        ("team", request.team.as_ref().map(|id| id.as_str())),
    ];
    let of_hooks = request.hooks.iter().map(|used| ("hooks", Some(used.version.as_str())));
    if request.hooks.len() > MAX_HOOKS {
        return Err(format!("`hooks` has more than {MAX_HOOKS} items"));
    }
    for (field, id) in ids.into_iter().chain(of_hooks).filter_map(|(field, id)| Some((field, id?))) {
        let is_id = (1..=ID_CHARS).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_id {
            return Err(format!("`{field}` is no id of at most {ID_CHARS} characters"));
        }
    }
    if request.jobs.is_empty() {
        return Err("it has no jobs; a request that was queued has at least one".to_owned());
    }
    for (number, job) in request.jobs.iter().enumerate() {
        if job.job.request != request.request || job.tenant != request.tenant {
            return Err(format!("job {number} is of another request or another tenant"));
        }
        let follows = match number.checked_sub(1) {
            None => job.job.index == 0,
            Some(before) => job.job.index > request.jobs[before].job.index,
        };
        if !follows {
            return Err(format!("job {number} has the index {}; indexes rise from 0", job.job.index));
        }
    }
    Ok(())
}

/// The row of a request.
pub(super) fn request_row(request: &RequestRecord) -> UsageRequestRow {
    let (input, output) = request.charge();
    UsageRequestRow {
        id: request.request.to_string(),
        tenant_id: request.tenant.to_string(),
        key_id: request.key.to_string(),
        person_id: request.person.as_ref().map(ToString::to_string),
        team_id: request.team.as_ref().map(ToString::to_string),
        operation: text(&request.operation, OPERATION_CHARS),
        model: text(&request.model, MODEL_CHARS),
        admitted_at_ms: number(request.admitted_at_ms),
        ended_at_ms: number(request.ended_at_ms),
        repeat_digest: request.repeat.map(|digest| digest.to_string()),
        shadowed: serde_json::to_string(&request.shadowed).expect("names are JSON"),
        charged_input_tokens: number(input),
        charged_output_tokens: number(output),
        hooks: (!request.hooks.is_empty())
            .then(|| serde_json::to_string(&request.hooks).expect("ids and counts are JSON")),
    }
}

/// The rows of its jobs.
pub(super) fn job_rows(request: &RequestRecord) -> impl Iterator<Item = UsageJobRow> {
    request.jobs.iter().map(move |job| {
        let charge = job.charge();
        UsageJobRow {
            request_id: request.request.to_string(),
            job_index: job.job.index.into(),
            base: job.base.0.to_string(),
            adapters: adapters(job),
            outcome: job.outcome.as_str().to_owned(),
            prompt_tokens: job.usage.prompt_tokens.into(),
            cached_tokens: job.usage.cached_tokens.into(),
            computed_tokens: job.usage.completion_tokens.into(),
            delivered_tokens: job.delivered_tokens.into(),
            charged_input_tokens: charge.input_tokens.into(),
            charged_output_tokens: charge.output_tokens.into(),
            attempts: job.attempts.into(),
            first_token_ms: job.first_token_after.map(milliseconds),
            took_ms: milliseconds(job.took),
        }
    })
}

/// What requests add to the sums of days, by the order of those. A request counts with its first job.
pub(super) fn days<'a>(requests: impl IntoIterator<Item = &'a RequestRecord>) -> Vec<UsageDayRow> {
    let mut days = BTreeMap::new();
    for request in requests {
        let id = |id: Option<&str>| id.unwrap_or_default().to_owned();
        let day = PeriodKey::day(request.admitted_at_ms).to_string();
        let person = id(request.person.as_ref().map(|person| person.as_str()));
        let team = id(request.team.as_ref().map(|team| team.as_str()));
        for job in job_rows(request) {
            let row = UsageDayRow {
                tenant_id: request.tenant.to_string(),
                day: day.clone(),
                key_id: request.key.to_string(),
                person_id: person.clone(),
                team_id: team.clone(),
                base: job.base,
                adapters: job.adapters,
                outcome: job.outcome,
                requests: i64::from(job.job_index == 0),
                jobs: 1,
                prompt_tokens: job.prompt_tokens,
                cached_tokens: job.cached_tokens,
                computed_tokens: job.computed_tokens,
                delivered_tokens: job.delivered_tokens,
                charged_input_tokens: job.charged_input_tokens,
                charged_output_tokens: job.charged_output_tokens,
                closed: 0,
            };
            days.entry(key(&row)).and_modify(|sum| add(sum, &row)).or_insert(row);
        }
    }
    days.into_values().collect()
}

/// What requests add to what hooks did in a day, by the order of those sums.
pub(super) fn hook_days<'a>(requests: impl IntoIterator<Item = &'a RequestRecord>) -> Vec<HookDayRow> {
    let mut days = BTreeMap::<_, HookDayRow>::new();
    for request in requests {
        let day = PeriodKey::day(request.admitted_at_ms).to_string();
        for used in &request.hooks {
            let (version_id, day) = (used.version.to_string(), day.clone());
            let none = HookDayRow { calls: 0, failures: 0, skipped: 0, refusals: 0, fuel: 0, version_id, day };
            let sum = days.entry((none.version_id.clone(), none.day.clone())).or_insert(none);
            sum.calls += i64::from(used.calls);
            sum.failures += i64::from(used.failures);
            sum.skipped += i64::from(used.skipped);
            sum.refusals += i64::from(used.refusals);
            sum.fuel = sum.fuel.saturating_add(number(used.fuel));
        }
    }
    days.into_values().collect()
}

/// What requests add to totals, by the order of those. What costs nothing moves none.
pub(super) fn added<'a>(requests: impl IntoIterator<Item = &'a RequestRecord>) -> Vec<Added> {
    let mut added = BTreeMap::<_, Added>::new();
    for request in requests {
        let (input, output) = request.charge();
        let amount = number(input.saturating_add(output));
        if amount == 0 {
            continue;
        }
        for key in total_keys(request) {
            let key = key_of(&key);
            let tenant_id = request.tenant.to_string();
            let new = || Added { key: key.clone(), tenant_id, amount: 0 };
            added.entry(key.clone()).or_insert_with(new).amount += amount;
        }
    }
    added.into_values().collect()
}

/// The totals that a request counts in.
pub(super) fn total_keys(request: &RequestRecord) -> impl Iterator<Item = TotalKey> {
    let periods = [PeriodKey::day(request.admitted_at_ms), PeriodKey::month(request.admitted_at_ms)];
    let of =
        move |subject: Subject| periods.map(|period| TotalKey { subject: subject.clone(), period, unit: Unit::Tokens });
    request.subjects().into_iter().flat_map(of)
}

fn adapters(job: &JobRecord) -> String {
    serde_json::to_string(&job.adapters).expect("digests are JSON")
}

fn key(row: &UsageDayRow) -> [String; 8] {
    let UsageDayRow { tenant_id, day, key_id, person_id, team_id, base, adapters, outcome, .. } = row;
    [tenant_id, day, key_id, person_id, team_id, base, adapters, outcome].map(Clone::clone)
}

fn add(sum: &mut UsageDayRow, row: &UsageDayRow) {
    sum.requests += row.requests;
    sum.jobs += row.jobs;
    sum.prompt_tokens += row.prompt_tokens;
    sum.cached_tokens += row.cached_tokens;
    sum.computed_tokens += row.computed_tokens;
    sum.delivered_tokens += row.delivered_tokens;
    sum.charged_input_tokens += row.charged_input_tokens;
    sum.charged_output_tokens += row.charged_output_tokens;
}

/// The beginning of a text, without the character that PostgreSQL has none for.
fn text(text: &str, limit: usize) -> String {
    text.chars().filter(|character| *character != '\0').take(limit).collect()
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Moments and tokens are far smaller than what columns take.
fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
