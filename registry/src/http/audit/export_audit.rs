use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use futures::TryStreamExt as _;
use futures::stream;
use serde::Deserialize;
use utoipa::IntoParams;

use super::chain_request;
use crate::error::RegistryError;
use crate::http::{Caller, Problems, QueryOf, Serving};

/// Which chain.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportAudit {
    /// A tenant's name; absent for the caller's own. Naming another takes the scope `admin`.
    tenant: Option<String>,
    /// `true` for the chain of what belongs to no tenant. It takes the scope `admin`.
    installation: Option<bool>,
}

/// A whole chain as JSON lines, the oldest entry first, as it is at this moment. docs/audit.md describes the lines and how they
/// are verified; one that does not end with the line `end` broke off.
///
/// Scope: `audit:read`. The chain of another tenant and that of the installation take the scope `admin`.
#[utoipa::path(
    get, path = "/audit/export", tag = "audit",
    params(ExportAudit),
    responses((status = 200, description = "The lines", body = String, content_type = "application/x-ndjson"), Problems)
)]
pub(crate) async fn export_audit(
    Serving(registry): Serving,
    caller: Caller,
    QueryOf(request): QueryOf<ExportAudit>,
) -> Result<Response, RegistryError> {
    let chain = chain_request(request.tenant, request.installation)?;
    let export = registry.export_audit(&caller.0, &chain).await?;
    let lines = stream::try_unfold(export, |mut export| async move {
        Ok::<_, RegistryError>(export.next().await?.map(|text| (text, export)))
    });
    // A reader that finds no last line knows that it broke off; why is for the log.
    let lines = lines.inspect_err(|error| tracing::warn!(%error, "An export of audit entries broke off"));
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}
