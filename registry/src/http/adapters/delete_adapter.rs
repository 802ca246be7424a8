use axum::extract::State;
use axum::http::StatusCode;
use sea_orm::{ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _, QueryFilter as _, QuerySelect as _};
use souk_protocol::Scope;

use super::AdapterPath;
use crate::Registry;
use crate::catalog::VersionState;
use crate::db::entities::{adapter, tag, version, version_file};
use crate::db::{begin_write, now_ms};
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems};

/// Deletes an adapter with its versions and tags. Its name can never be used again.
///
/// Scope: `adapters:write`.
#[utoipa::path(
    delete, path = "/adapters/{owner}/{name}", tag = "adapters",
    params(AdapterPath),
    responses((status = 204, description = "It is gone, and so are bytes that nothing else refers to"), Problems)
)]
pub(crate) async fn delete_adapter(
    State(registry): State<Registry>,
    caller: Caller,
    PathOf(path): PathOf<AdapterPath>,
) -> Result<StatusCode, RegistryError> {
    caller.require(Scope::AdaptersWrite)?;
    let adapter = registry.owned_adapter(&caller.0, &path.owner, &path.name).await?;
    let transaction = begin_write(&registry.db).await?;
    let digests = delete_rows(&transaction, &adapter).await?;
    transaction.commit().await?;
    tracing::info!(adapter.owner = adapter.owner, adapter.name = adapter.name, "Deleted an adapter");
    // A task of its own: a disconnect now must not leave the blobs behind.
    let cleaning = tokio::spawn(async move { registry.release_blobs(&digests).await });
    cleaning.await.map_err(std::io::Error::other)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Answers the digests of the files that were referred to.
async fn delete_rows(transaction: &DatabaseTransaction, adapter: &adapter::Model) -> Result<Vec<String>, DbErr> {
    let now_ms = now_ms();
    adapter::Entity::update_many()
        .col_expr(adapter::Column::DeletedAtMs, now_ms.into())
        .filter(adapter::Column::Id.eq(&adapter.id))
        .exec(transaction)
        .await?;
    tag::Entity::delete_many().filter(tag::Column::AdapterId.eq(&adapter.id)).exec(transaction).await?;
    let version_ids: Vec<String> = version::Entity::find()
        .select_only()
        .column(version::Column::Id)
        .filter(version::Column::AdapterId.eq(&adapter.id))
        .filter(version::Column::State.ne(VersionState::Deleted.as_str()))
        .into_tuple()
        .all(transaction)
        .await?;
    let mut digests = Vec::new();
    for version_id in &version_ids {
        digests.extend(delete_files(transaction, version_id).await?);
    }
    version::Entity::update_many()
        .col_expr(version::Column::State, VersionState::Deleted.as_str().into())
        .col_expr(version::Column::StateChangedAtMs, now_ms.into())
        .filter(version::Column::Id.is_in(version_ids))
        .exec(transaction)
        .await?;
    Ok(digests)
}

/// Ends a version's references to its files; answers their digests.
pub(crate) async fn delete_files(transaction: &DatabaseTransaction, version_id: &str) -> Result<Vec<String>, DbErr> {
    let of_version = version_file::Column::VersionId.eq(version_id);
    let files = version_file::Entity::find().filter(of_version.clone()).all(transaction).await?;
    version_file::Entity::delete_many().filter(of_version).exec(transaction).await?;
    Ok(files.into_iter().map(|file| file.digest).collect())
}
