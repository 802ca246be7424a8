//! Table `upload_blobs`: blobs that an upload is about to put in place, or counts on finding there.

use std::collections::HashSet;

use sea_orm::entity::prelude::*;
use sea_orm::{QuerySelect as _, Set};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "upload_blobs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub upload_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub digest: String,
}
no_relations!();

pub(crate) async fn insert_all(
    connection: &impl ConnectionTrait,
    upload_id: &str,
    digests: &[String],
) -> Result<(), DbErr> {
    let row = |digest: &String| ActiveModel { upload_id: Set(upload_id.to_owned()), digest: Set(digest.clone()) };
    Entity::insert_many(digests.iter().map(row)).exec_without_returning(connection).await.map(|_| ())
}

/// Ends an upload's reliance on blobs; answers their digests.
pub(crate) async fn delete_of(connection: &impl ConnectionTrait, upload_id: &str) -> Result<Vec<String>, DbErr> {
    let of_upload = Column::UploadId.eq(upload_id);
    let rows = Entity::find().filter(of_upload.clone()).all(connection).await?;
    Entity::delete_many().filter(of_upload).exec(connection).await?;
    Ok(rows.into_iter().map(|row| row.digest).collect())
}

/// Those of `digests` that some upload counts on.
pub(crate) async fn counted_on(
    connection: &impl ConnectionTrait,
    digests: &[String],
) -> Result<HashSet<String>, DbErr> {
    let query = Entity::find().select_only().column(Column::Digest).distinct();
    let found: Vec<String> = query.filter(Column::Digest.is_in(digests)).into_tuple().all(connection).await?;
    Ok(found.into_iter().collect())
}
