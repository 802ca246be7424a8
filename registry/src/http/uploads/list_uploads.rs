use axum::Json;

use super::DirectUpload;
use crate::error::RegistryError;
use crate::http::adapters::AdapterPath;
use crate::http::{Caller, Page, PageQuery, PathOf, Problems, QueryOf, Serving};

/// The uploads for an adapter that go straight to the object store and can still be completed, oldest first.
///
/// Scope: `adapters:write`. Who was interrupted finds its upload here by version and digest. Where objects are in a folder
/// it answers 409 `direct_uploads_unavailable`, so that who asks before it hashes a file learns that there are none.
#[utoipa::path(
    get, path = "/adapters/{owner}/{name}/uploads", tag = "uploads",
    params(AdapterPath, PageQuery),
    responses((status = 200, body = Page<DirectUpload>, description = "A page of them"), Problems)
)]
pub(crate) async fn list_uploads(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<AdapterPath>,
    QueryOf(page): QueryOf<PageQuery>,
) -> Result<Json<Page<DirectUpload>>, RegistryError> {
    let slice = page.slice()?;
    let limit = slice.limit;
    let rows = registry.list_direct_uploads(&caller.0, &path.owner, &path.name, slice).await?;
    Ok(Json(Page::from_rows(rows, limit, |upload| upload.row.upload_id.clone(), DirectUpload::from)))
}
