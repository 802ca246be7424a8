use axum::Json;
use serde::{Deserialize, Serialize};
use souk_protocol::limits::PeriodKey;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use super::{UsageAdapter, UsageSums, adapters_of};
use crate::db::moment;
use crate::db::usage_reading::{Bucket, Group};
use crate::error::RegistryError;
use crate::http::page::{MAX_NAME_CHARS, check_length, cursor_after};
use crate::http::{Caller, PageQuery, Problems, QueryOf, Serving};
use crate::usage::read::{Asked, By, Names, SumsRequest};

/// Words of `group_by`, each with what it means.
const GROUPS: [(&str, By); 6] = [
    ("key", By::Key),
    ("member", By::Person),
    ("team", By::Team),
    ("base", By::Base),
    ("adapter", By::Adapters),
    ("outcome", By::Outcome),
];

/// Which sums, and which page of them.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct GetUsage {
    /// A tenant's name; absent for the caller's own. Naming another takes the scope `admin`.
    tenant: Option<String>,
    /// A day, a month or a moment of UTC from which on it is summed up; absent: the month in which `to` lies. Days and months are
    /// whole: a moment within one means all of its day.
    from: Option<String>,
    /// And before which; absent: now.
    to: Option<String>,
    /// `hour`, `day` or `month`; `day` if absent. Hours are of the rows, which are kept for a while, and of 31 days at most.
    bucket: Option<String>,
    /// By what else it is taken apart: some of `key`, `member`, `team`, `base`, `adapter`, `outcome`, with commas between.
    group_by: Option<String>,
    /// Only what this key or session used, by its id.
    key: Option<String>,
    /// Only what this member used, by the person's id.
    member: Option<String>,
    /// Only what was bound by this team's limits, by its id.
    team: Option<String>,
    /// Only that on which this adapter acted: `owner/name`, `owner/name@version`, or a version's digest.
    adapter: Option<String>,
    /// Only that of this base model, by its id or its digest.
    base: Option<String>,
    /// Only what ended so.
    outcome: Option<String>,
    /// Items per page, 1 to 100; 20 if absent.
    limit: Option<u64>,
    /// `next_cursor` of the page before; absent for the first page.
    cursor: Option<String>,
}

/// Sums, and all of them together.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsagePage {
    /// By time, and then by what they are taken apart by.
    data: Vec<UsageGroup>,
    /// All of what was asked for together, not this page alone.
    totals: UsageSums,
    /// The moment from which on it was summed up.
    #[serde(with = "time::serde::rfc3339")]
    from: OffsetDateTime,
    /// And before which.
    #[serde(with = "time::serde::rfc3339")]
    to: OffsetDateTime,
    /// Ask for the next page with this as `cursor`; null on the last page.
    next_cursor: Option<String>,
}

/// What was used in some time. What it is not taken apart by is absent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageGroup {
    /// When the time begins.
    #[serde(with = "time::serde::rfc3339")]
    begins_at: OffsetDateTime,
    /// And ends.
    #[serde(with = "time::serde::rfc3339")]
    ends_at: OffsetDateTime,
    /// With which key or session.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    /// Its name now.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_name: Option<String>,
    /// By which member; empty for services.
    #[serde(skip_serializing_if = "Option::is_none")]
    member_id: Option<String>,
    /// The member's address, for callers with the scope `tenant:manage`.
    #[serde(skip_serializing_if = "Option::is_none")]
    member_email: Option<String>,
    /// Bound by which team's limits; empty for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    team_id: Option<String>,
    /// Its name now.
    #[serde(skip_serializing_if = "Option::is_none")]
    team_name: Option<String>,
    /// Digest of the base model.
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<String>,
    /// Its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    base_name: Option<String>,
    /// The adapters that acted, in their order.
    #[serde(skip_serializing_if = "Option::is_none")]
    adapters: Option<Vec<UsageAdapter>>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<String>,
    #[serde(flatten)]
    sums: UsageSums,
}

/// What the tenant used, by time and by what else is asked for. Days and months are there for ever, hours as long as rows are kept.
///
/// Scope: `usage:read`. Another tenant's takes the scope `admin`.
#[utoipa::path(
    get, path = "/usage", tag = "usage",
    params(GetUsage),
    responses((status = 200, description = "Sums, by time", body = UsagePage), Problems)
)]
pub(crate) async fn get_usage(
    Serving(registry): Serving,
    caller: Caller,
    QueryOf(request): QueryOf<GetUsage>,
) -> Result<Json<UsagePage>, RegistryError> {
    let slice = PageQuery::new(request.limit, request.cursor.clone()).slice()?;
    let request = request.read()?;
    let found = registry.usage(&caller.0, &request, &slice).await?;
    let limit = usize::try_from(slice.limit).unwrap_or(usize::MAX);
    let last = found.groups.get(limit.saturating_sub(1)).filter(|_| found.groups.len() > limit);
    let next_cursor = last.map(|group| cursor_after(&serde_json::to_string(&group.key()).expect("texts are JSON")));
    let shown = found.groups.iter().take(limit).map(|group| UsageGroup::new(group, &request, &found.names));
    Ok(Json(UsagePage {
        data: shown.collect(),
        totals: found.totals.into(),
        from: moment(found.filter.from_ms),
        to: moment(found.filter.to_ms),
        next_cursor,
    }))
}

impl GetUsage {
    fn read(self) -> Result<SumsRequest, RegistryError> {
        check_length("tenant", self.tenant.as_deref(), MAX_NAME_CHARS)?;
        let wrong = |name: &str, rule: &str, given: &str| {
            let given: String = given.chars().take(80).collect();
            RegistryError::bad_request("invalid_query", format!("`{name}` is {rule}; given `{given}`"))
        };
        let bucket = match self.bucket.as_deref() {
            Some("hour") => Bucket::Hour,
            None | Some("day") => Bucket::Day,
            Some("month") => Bucket::Month,
            Some(other) => return Err(wrong("bucket", "hour, day or month", other)),
        };
        let mut by = Vec::new();
        for word in self.group_by.iter().flat_map(|words| words.split(',')) {
            let found = GROUPS.iter().find(|(name, _)| *name == word).map(|(_, by)| *by);
            let all = GROUPS.map(|(name, _)| name).join(", ");
            let found = found.ok_or_else(|| wrong("group_by", &format!("some of {all}, each once"), word))?;
            if by.contains(&found) {
                return Err(wrong("group_by", &format!("some of {all}, each once"), word));
            }
            by.push(found);
        }
        let Self { tenant, from, to, key, member, team, adapter, base, outcome, .. } = self;
        Ok(SumsRequest { asked: Asked { tenant, from, to, key, member, team, adapter, base, outcome }, bucket, by })
    }
}

impl UsageGroup {
    fn new(group: &Group, request: &SumsRequest, names: &Names) -> Self {
        let (begins_at_ms, ends_at_ms) = bounds(group);
        let of = |wanted: By| {
            let at = request.by.iter().position(|by| *by == wanted)?;
            group.names.get(at).cloned()
        };
        let (key_id, member_id, team_id, base) = (of(By::Key), of(By::Person), of(By::Team), of(By::Base));
        let name = |names: &std::collections::HashMap<String, String>, id: &Option<String>| {
            id.as_ref().and_then(|id| names.get(id)).cloned()
        };
        Self {
            begins_at: moment(begins_at_ms),
            ends_at: moment(ends_at_ms),
            key_name: name(&names.keys, &key_id),
            member_email: name(&names.emails, &member_id),
            team_name: name(&names.teams, &team_id),
            base_name: name(&names.bases, &base),
            adapters: of(By::Adapters).map(|column| adapters_of(&column, names)),
            outcome: of(By::Outcome),
            key_id,
            member_id,
            team_id,
            base,
            sums: group.sums.into(),
        }
    }
}

/// When a bucket begins and ends, in milliseconds since the Unix epoch.
fn bounds(group: &Group) -> (i64, i64) {
    const HOUR_MS: i64 = 3_600_000;
    let ms = |at_ms: u64| i64::try_from(at_ms).unwrap_or(i64::MAX);
    match group.bucket.parse::<PeriodKey>() {
        Ok(period) => (ms(period.begins_at_ms()), ms(period.ends_at_ms())),
        Err(_) => {
            let begins_at_ms = group.bucket.parse().unwrap_or_default();
            (begins_at_ms, begins_at_ms.saturating_add(HOUR_MS))
        }
    }
}
