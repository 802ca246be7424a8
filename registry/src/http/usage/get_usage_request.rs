use axum::Json;
use serde::Deserialize;
use utoipa::IntoParams;

use super::UsageRequest;
use crate::error::RegistryError;
use crate::http::page::{MAX_NAME_CHARS, check_length};
use crate::http::{Caller, PathOf, Problems, QueryOf, Serving};

/// Whose request it is.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfTenant {
    /// A tenant's name; absent for the caller's own. Naming another takes the scope `admin`.
    tenant: Option<String>,
}

/// One request: who asked, how each of its jobs ended, what was charged and by which rule. Another tenant's is not there.
///
/// Scope: `usage:read`. Another tenant's takes the scope `admin`.
#[utoipa::path(
    get, path = "/usage/{used_request}", tag = "usage",
    params(("used_request" = String, Path, description = "As the answer's header `x-request-id` said it"), OfTenant),
    responses((status = 200, description = "The request", body = UsageRequest), Problems)
)]
pub(crate) async fn get_usage_request(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(id): PathOf<String>,
    QueryOf(of): QueryOf<OfTenant>,
) -> Result<Json<UsageRequest>, RegistryError> {
    check_length("tenant", of.tenant.as_deref(), MAX_NAME_CHARS)?;
    let (request, names) = registry.used_request(&caller.0, of.tenant.as_deref(), &id).await?;
    Ok(Json(UsageRequest::new(request, &names)))
}
