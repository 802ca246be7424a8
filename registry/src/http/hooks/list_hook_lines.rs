use axum::Json;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use super::HookPath;
use crate::db::moment;
use crate::error::RegistryError;
use crate::hooks::HookLineDetails;
use crate::http::{Caller, Page, PageQuery, PathOf, Problems, QueryOf, Serving};

/// Which lines, and which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListHookLines {
    /// Only how it failed.
    #[serde(default)]
    failures: bool,
    /// Items per page, 1 to 100; 20 if absent.
    limit: Option<u64>,
    /// `next_cursor` of the page before; absent for the first page.
    cursor: Option<String>,
}

/// Something that a hook said, or how it failed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HookLogLine {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// The version of the hook.
    version: String,
    /// `debug`, `info`, `warn` or `error` of a line that it wrote; `failed`.
    kind: String,
    /// In which request; null in another tenant's, unless that grants it.
    request: Option<String>,
    /// Of a failure: in which part, `prompt`, `answer` or `stream`.
    part: Option<String>,
    /// Of a failure: how.
    code: Option<String>,
    /// The line, or what the hook itself said of its failure; null in another tenant's request, unless that grants it.
    text: Option<String>,
}

/// The last lines of a hook, the newest first: what it wrote, and how it failed.
///
/// Scope: `adapters:write`. Of requests of other tenants there are the host's own words for failures and nothing that the hook
/// wrote, unless that tenant lets its owner read it (`PUT /hook-settings`).
#[utoipa::path(
    get, path = "/hooks/{owner}/{hook}/lines", tag = "hooks",
    params(HookPath, ListHookLines),
    responses((status = 200, description = "A page of lines", body = Page<HookLogLine>), Problems)
)]
pub(crate) async fn list_hook_lines(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<HookPath>,
    QueryOf(request): QueryOf<ListHookLines>,
) -> Result<Json<Page<HookLogLine>>, RegistryError> {
    let slice = PageQuery::new(request.limit, request.cursor).slice()?;
    let limit = slice.limit;
    let rows = registry.list_hook_lines(&caller.0, &path.owner, &path.hook, request.failures, slice).await?;
    Ok(Json(Page::from_rows(rows, limit, |row: &HookLineDetails| row.id.clone(), HookLogLine::from)))
}

impl From<HookLineDetails> for HookLogLine {
    fn from(row: HookLineDetails) -> Self {
        Self {
            at: moment(row.at_ms),
            version: row.version,
            kind: row.kind,
            request: row.request_id,
            part: row.part,
            code: row.code,
            text: row.text,
        }
    }
}
