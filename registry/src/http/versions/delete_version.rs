use axum::extract::State;
use axum::http::StatusCode;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};
use souk_protocol::Scope;

use super::{VersionPath, set_state};
use crate::Registry;
use crate::catalog::{VersionState, existing_version};
use crate::db::begin_write;
use crate::db::entities::tag;
use crate::error::RegistryError;
use crate::http::adapters::delete_files;
use crate::http::{Caller, PathOf, Problems};

/// Deletes a version. Its number can never be used again, and who pinned it gets 404; to keep it for those, yank it.
///
/// Scope: `adapters:write`.
#[utoipa::path(
    delete, path = "/adapters/{owner}/{name}/versions/{version}", tag = "versions",
    params(VersionPath),
    responses((status = 204, description = "It is gone, and so are bytes that nothing else refers to"), Problems)
)]
pub(crate) async fn delete_version(
    State(registry): State<Registry>,
    caller: Caller,
    PathOf(path): PathOf<VersionPath>,
) -> Result<StatusCode, RegistryError> {
    caller.require(Scope::AdaptersWrite)?;
    let adapter = registry.owned_adapter(&caller.0, &path.owner, &path.name).await?;
    let transaction = begin_write(&registry.db).await?;
    let version = existing_version(&transaction, &adapter, &path.version).await?;
    tag::Entity::delete_many().filter(tag::Column::VersionId.eq(&version.id)).exec(&transaction).await?;
    let digests = delete_files(&transaction, &version.id).await?;
    set_state(&transaction, &version, VersionState::Deleted, None).await?;
    transaction.commit().await?;
    tracing::info!(
        adapter.owner = path.owner,
        adapter.name = path.name,
        version.number = path.version,
        "Deleted a version"
    );
    // A task of its own: a disconnect now must not leave the blobs behind.
    let cleaning = tokio::spawn(async move { registry.release_blobs(&digests).await });
    cleaning.await.map_err(std::io::Error::other)?;
    Ok(StatusCode::NO_CONTENT)
}
