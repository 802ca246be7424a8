use axum::Json;

use super::{UploadPath, UploadStatus};
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};

/// An upload that goes straight to the object store, and the parts of it that have arrived: what is missing is to be sent.
///
/// Scope: `adapters:write`. One that was completed or ended, or that has expired, answers 404.
#[utoipa::path(
    get, path = "/adapters/{owner}/{name}/uploads/{upload}", tag = "uploads",
    params(UploadPath),
    responses((status = 200, body = UploadStatus, description = "How far it is"), Problems)
)]
pub(crate) async fn get_upload(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<UploadPath>,
) -> Result<Json<UploadStatus>, RegistryError> {
    let upload = registry.get_direct_upload(&caller.0, &path.owner, &path.name, &path.upload).await?;
    Ok(Json(upload.into()))
}
