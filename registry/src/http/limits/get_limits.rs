use axum::Json;

use super::{SubjectLimits, SubjectPath};
use crate::error::RegistryError;
use crate::http::members::OfTenant;
use crate::http::{Caller, PathOf, Problems, QueryOf, Serving};

/// The limits of a team, a member or a key, without those of the levels above that bind it, too.
///
/// Scope: `tenant:manage`. What is another tenant's is 404, as what is not there.
#[utoipa::path(
    get, path = "/limits/{level}/{subject}", tag = "limits",
    params(SubjectPath, OfTenant),
    responses((status = 200, description = "Its limits", body = SubjectLimits), Problems)
)]
pub(crate) async fn get_limits(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<SubjectPath>,
    QueryOf(of): QueryOf<OfTenant>,
) -> Result<Json<SubjectLimits>, RegistryError> {
    let limits = registry.get_limits(&caller.0, of.tenant(), (&path.level, &path.subject)).await?;
    Ok(Json(limits.into()))
}
