//! Table `identities`: who persons are to providers of identities.

use sea_orm::Set;
use sea_orm::entity::prelude::*;

use super::clock::now_ms;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "identities")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub issuer: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub subject: String,
    pub person_id: String,
    pub created_at_ms: i64,
}
no_relations!();

/// The id of the person that an issuer calls so.
pub(crate) async fn person_of(
    connection: &impl ConnectionTrait,
    issuer: &str,
    subject: &str,
) -> Result<Option<String>, DbErr> {
    let found = Entity::find_by_id((issuer.to_owned(), subject.to_owned())).one(connection).await?;
    Ok(found.map(|row| row.person_id))
}

/// A unique violation says that it is somebody's.
pub(crate) async fn insert(
    connection: &impl ConnectionTrait,
    issuer: &str,
    subject: &str,
    person_id: &str,
) -> Result<(), DbErr> {
    let row = ActiveModel {
        issuer: Set(issuer.to_owned()),
        subject: Set(subject.to_owned()),
        person_id: Set(person_id.to_owned()),
        created_at_ms: Set(now_ms()),
    };
    Entity::insert(row).exec_without_returning(connection).await.map(|_| ())
}

/// Removes all of a person.
pub(crate) async fn delete_of_person(connection: &impl ConnectionTrait, person_id: &str) -> Result<(), DbErr> {
    Entity::delete_many().filter(Column::PersonId.eq(person_id)).exec(connection).await.map(|_| ())
}
