use axum::Json;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::HookPath;
use crate::error::RegistryError;
use crate::hooks::HookDay;
use crate::http::{Caller, PathOf, Problems, QueryOf, Serving};

/// Days where the query says nothing.
const DEFAULT_DAYS: u32 = 30;
/// Most days.
const MAX_DAYS: u32 = 400;

/// Of which days.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HookUsageQuery {
    /// How many days of UTC up to today, 1 to 400; 30 if absent.
    days: Option<u32>,
}

/// What a hook did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HookUsage {
    /// By day, the last one first, and version. Days without calls are left out.
    days: Vec<HookUsageDay>,
}

/// What a version of a hook did in a day, in whoever's requests.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HookUsageDay {
    /// The day of UTC.
    #[schema(example = "2026-11-29")]
    day: String,
    /// The version.
    version: String,
    /// How often it was called: once for a prompt, for each answer, for each stream.
    calls: i64,
    /// How often it failed.
    failures: i64,
    /// How often a request went on although it had failed.
    skipped: i64,
    /// How often it refused.
    refusals: i64,
    /// Fuel that it used.
    fuel: i64,
}

/// What a hook did, by day and version: counts and fuel in whoever's requests.
///
/// Scope: `usage:read`.
#[utoipa::path(
    get, path = "/hooks/{owner}/{hook}/usage", tag = "hooks",
    params(HookPath, HookUsageQuery),
    responses((status = 200, description = "The days", body = HookUsage), Problems)
)]
pub(crate) async fn get_hook_usage(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<HookPath>,
    QueryOf(query): QueryOf<HookUsageQuery>,
) -> Result<Json<HookUsage>, RegistryError> {
    let days = query.days.unwrap_or(DEFAULT_DAYS);
    if !(1..=MAX_DAYS).contains(&days) {
        let detail = format!("`days` is 1 to {MAX_DAYS}, given {days}");
        return Err(RegistryError::bad_request("invalid_query", detail));
    }
    let days = registry.hook_usage(&caller.0, &path.owner, &path.hook, days).await?;
    Ok(Json(HookUsage { days: days.into_iter().map(HookUsageDay::from).collect() }))
}

impl From<HookDay> for HookUsageDay {
    fn from(HookDay { version, row }: HookDay) -> Self {
        Self {
            day: row.day,
            version,
            calls: row.calls,
            failures: row.failures,
            skipped: row.skipped,
            refusals: row.refusals,
            fuel: row.fuel,
        }
    }
}
