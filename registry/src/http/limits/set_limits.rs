use std::collections::BTreeMap;

use axum::Json;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{LimitChange, SubjectLimits, SubjectPath, asked};
use crate::error::RegistryError;
use crate::http::members::OfTenant;
use crate::http::{Body, Caller, PathOf, Problems, QueryOf, Serving};

/// What is to change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetLimits {
    /// Limits by name: each takes the place of the one before, null takes it away, and what is absent stays.
    limits: BTreeMap<String, LimitChange>,
}

/// Sets limits of a team, a member or a key. They hold for the next request, within a second everywhere.
///
/// Scope: `tenant:manage`. A limit beyond the one of a level above answers 409 `beyond_level_above`, with both: it would say
/// nothing, since that binds first. One above that is lowered later binds then. The tenant's own limits are set by operators.
#[utoipa::path(
    patch, path = "/limits/{level}/{subject}", tag = "limits",
    params(SubjectPath, OfTenant),
    request_body = SetLimits,
    responses((status = 200, description = "Its limits as they are now", body = SubjectLimits), Problems)
)]
pub(crate) async fn set_limits(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<SubjectPath>,
    QueryOf(of): QueryOf<OfTenant>,
    Body(request): Body<SetLimits>,
) -> Result<Json<SubjectLimits>, RegistryError> {
    let subject = (path.level.as_str(), path.subject.as_str());
    Ok(Json(registry.set_limits(&caller.0, of.tenant(), subject, asked(request.limits)).await?.into()))
}
