//! Table `version_files`: the files of versions. A blob is referred to while a row here names its digest.

use std::collections::HashSet;

use sea_orm::entity::prelude::*;
use sea_orm::{IntoActiveModel as _, QuerySelect as _, QueryTrait as _};

use souk_protocol::Digest;

use super::versions;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "version_files")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub version_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    pub digest: String,
    pub size_bytes: i64,
}
no_relations!();

pub(crate) async fn of_versions(
    connection: &impl ConnectionTrait,
    version_ids: impl IntoIterator<Item = &str>,
) -> Result<Vec<Model>, DbErr> {
    Entity::find().filter(Column::VersionId.is_in(version_ids)).all(connection).await
}

pub(crate) async fn get(
    connection: &impl ConnectionTrait,
    version_id: &str,
    name: &str,
) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id((version_id.to_owned(), name.to_owned())).one(connection).await
}

/// A file of any version with this content: versions of one digest have the same files but for their cards.
pub(crate) async fn of_content(
    connection: &impl ConnectionTrait,
    version_digest: &Digest,
    name: &str,
) -> Result<Option<Model>, DbErr> {
    let versions = versions::Entity::find().filter(versions::Column::Digest.eq(version_digest.to_string()));
    let ids = versions.select_only().column(versions::Column::Id).into_query();
    let files = Entity::find().filter(Column::Name.eq(name)).filter(Column::VersionId.in_subquery(ids));
    files.one(connection).await
}

pub(crate) async fn insert_all(connection: &impl ConnectionTrait, rows: &[Model]) -> Result<(), DbErr> {
    let rows = rows.iter().map(|row| row.clone().into_active_model().reset_all());
    Entity::insert_many(rows).exec_without_returning(connection).await.map(|_| ())
}

/// Files to which references ended.
pub(crate) struct Freed {
    /// Their digests.
    pub(crate) digests: Vec<String>,
    /// Their sizes together.
    pub(crate) size_bytes: i64,
}

/// Ends a version's references to its files.
pub(crate) async fn delete_of_version(connection: &impl ConnectionTrait, version_id: &str) -> Result<Freed, DbErr> {
    delete_where(connection, Column::VersionId.eq(version_id)).await
}

/// Ends the references of all versions of an adapter.
pub(crate) async fn delete_of_adapter(connection: &impl ConnectionTrait, adapter_id: &str) -> Result<Freed, DbErr> {
    let of_adapter = versions::Entity::find().filter(versions::Column::AdapterId.eq(adapter_id));
    let ids = of_adapter.select_only().column(versions::Column::Id).into_query();
    delete_where(connection, Column::VersionId.in_subquery(ids)).await
}

async fn delete_where(connection: &impl ConnectionTrait, condition: Expr) -> Result<Freed, DbErr> {
    let files = Entity::find().filter(condition.clone()).all(connection).await?;
    Entity::delete_many().filter(condition).exec(connection).await?;
    let size_bytes = files.iter().map(|file| file.size_bytes).sum();
    Ok(Freed { digests: files.into_iter().map(|file| file.digest).collect(), size_bytes })
}

/// The digests that begin with the byte `shard` and that some version refers to.
pub(crate) async fn digests_in(connection: &impl ConnectionTrait, shard: u8) -> Result<Vec<String>, DbErr> {
    let prefix = format!("sha256:{shard:02x}");
    let query = Entity::find().select_only().column(Column::Digest).distinct();
    // Behind all hex digits comes `g`.
    let within = query.filter(Column::Digest.gte(prefix.clone())).filter(Column::Digest.lt(format!("{prefix}g")));
    within.into_tuple().all(connection).await
}

/// The files whose digests begin with the byte `shard`.
pub(crate) async fn all_in(connection: &impl ConnectionTrait, shard: u8) -> Result<Vec<Model>, DbErr> {
    let prefix = format!("sha256:{shard:02x}");
    let within =
        Entity::find().filter(Column::Digest.gte(prefix.clone())).filter(Column::Digest.lt(format!("{prefix}g")));
    within.all(connection).await
}

/// Those of `digests` that some version refers to.
pub(crate) async fn referred_to(
    connection: &impl ConnectionTrait,
    digests: &[String],
) -> Result<HashSet<String>, DbErr> {
    let query = Entity::find().select_only().column(Column::Digest).distinct();
    let found: Vec<String> = query.filter(Column::Digest.is_in(digests)).into_tuple().all(connection).await?;
    Ok(found.into_iter().collect())
}
