use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use futures::TryStreamExt as _;
use futures::stream;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::error::RegistryError;
use crate::http::page::{MAX_NAME_CHARS, check_length};
use crate::http::{Caller, Problems, QueryOf, Serving};

/// Which tenant.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportTenant {
    /// A tenant's name; absent for the caller's own. Naming another takes the scope `admin`.
    tenant: Option<String>,
}

/// All that is the tenant's, as JSON lines: a head, a row of a table a line, and an end with the number of rows and a digest of all
/// lines before it. Rows of `version_files` say where the file can be fetched. No secret is among them.
///
/// Scope: `tenant:manage`. Another tenant takes the scope `admin`.
#[utoipa::path(
    get, path = "/export", tag = "tenants",
    params(ExportTenant),
    responses((status = 200, description = "The lines", body = String, content_type = "application/x-ndjson"), Problems)
)]
pub(crate) async fn export_tenant(
    Serving(registry): Serving,
    caller: Caller,
    QueryOf(request): QueryOf<ExportTenant>,
) -> Result<Response, RegistryError> {
    check_length("tenant", request.tenant.as_deref(), MAX_NAME_CHARS)?;
    let export = registry.export_tenant(&caller.0, request.tenant.as_deref()).await?;
    let lines = stream::try_unfold(export, |mut export| async move {
        Ok::<_, RegistryError>(export.next().await?.map(|text| (text, export)))
    });
    // A reader that finds no end knows that it broke off; why is for the log.
    let lines = lines.inspect_err(|error| tracing::warn!(%error, "An export of a tenant broke off"));
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}
