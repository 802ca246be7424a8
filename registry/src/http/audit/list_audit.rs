use axum::Json;

use super::{AuditEntry, ChainPage};
use crate::error::RegistryError;
use crate::http::{Caller, Page, Problems, QueryOf, Serving};

/// Who changed what, the newest first. Those who act are named by ids, never by names or addresses.
///
/// Scope: `audit:read`. The chain of another tenant and that of the installation take the scope `admin`.
#[utoipa::path(
    get, path = "/audit", tag = "audit",
    params(ChainPage),
    responses((status = 200, description = "Entries, by falling number", body = Page<AuditEntry>), Problems)
)]
pub(crate) async fn list_audit(
    Serving(registry): Serving,
    caller: Caller,
    QueryOf(request): QueryOf<ChainPage>,
) -> Result<Json<Page<AuditEntry>>, RegistryError> {
    let (chain, slice) = request.read()?;
    let limit = slice.limit;
    let rows = registry.list_audit(&caller.0, &chain, slice).await?;
    Ok(Json(Page::from_rows(rows, limit, |row| row.number.to_string(), AuditEntry::from)))
}
