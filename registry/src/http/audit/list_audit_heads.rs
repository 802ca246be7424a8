use axum::Json;

use super::{AuditHead, ChainPage};
use crate::error::RegistryError;
use crate::http::{Caller, Page, Problems, QueryOf, Serving};

/// Where a chain ended, hour for hour, the newest first. Who keeps one of these can tell of any later export whether what
/// came before it is still what it was.
///
/// Scope: `audit:read`. The chain of another tenant and that of the installation take the scope `admin`.
#[utoipa::path(
    get, path = "/audit/heads", tag = "audit",
    params(ChainPage),
    responses((status = 200, description = "Heads, by falling number", body = Page<AuditHead>), Problems)
)]
pub(crate) async fn list_audit_heads(
    Serving(registry): Serving,
    caller: Caller,
    QueryOf(request): QueryOf<ChainPage>,
) -> Result<Json<Page<AuditHead>>, RegistryError> {
    let (chain, slice) = request.read()?;
    let limit = slice.limit;
    let rows = registry.list_audit_heads(&caller.0, &chain, slice).await?;
    Ok(Json(Page::from_rows(rows, limit, |row| row.number.to_string(), AuditHead::from)))
}
