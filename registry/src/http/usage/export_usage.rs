use axum::body::Body;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use futures::{TryStreamExt as _, stream};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::error::RegistryError;
use crate::http::page::{MAX_NAME_CHARS, check_length};
use crate::http::{Caller, Problems, QueryOf, Serving};
use crate::usage::read::Asked;

/// Which requests.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportUsage {
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
}

/// Requests as CSV, a line for each job, the oldest first. docs/usage.md describes the columns. A body that breaks off has not all
/// of them.
///
/// Scope: `usage:read`. Another tenant's take the scope `admin`.
#[utoipa::path(
    get, path = "/usage/export", tag = "usage",
    params(ExportUsage),
    responses((status = 200, description = "The lines", body = String, content_type = "text/csv"), Problems)
)]
pub(crate) async fn export_usage(
    Serving(registry): Serving,
    caller: Caller,
    QueryOf(request): QueryOf<ExportUsage>,
) -> Result<Response, RegistryError> {
    check_length("tenant", request.tenant.as_deref(), MAX_NAME_CHARS)?;
    let ExportUsage { tenant, from, to, key, member, team, adapter, base, outcome } = request;
    let asked = Asked { tenant, from, to, key, member, team, adapter, base, outcome };
    let export = registry.export_usage(&caller.0, &asked).await?;
    let lines = stream::try_unfold(export, |mut export| async move {
        Ok::<_, RegistryError>(export.next().await?.map(|text| (text, export)))
    });
    let lines = lines.inspect_err(|error| tracing::warn!(%error, "An export of usage broke off"));
    let headers = [
        (CONTENT_TYPE, "text/csv; charset=utf-8; header=present"),
        (CONTENT_DISPOSITION, "attachment; filename=\"usage.csv\""),
    ];
    Ok((headers, Body::from_stream(lines)).into_response())
}
