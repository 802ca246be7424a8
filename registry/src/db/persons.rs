//! Table `persons`. A row is never removed: who is erased has an id and nothing else.

use sea_orm::entity::prelude::*;
use sea_orm::{QuerySelect as _, Set};
use souk_protocol::PersonId;

use super::clock::now_ms;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "persons")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub name: Option<String>,
    pub email: Option<String>,
    pub email_is_verified: bool,
    pub created_at_ms: i64,
    pub erased_at_ms: Option<i64>,
}
no_relations!();

impl Model {
    /// What people read.
    pub(crate) fn called(&self) -> &str {
        self.name.as_deref().or(self.email.as_deref()).unwrap_or(&self.id)
    }
}

/// What is known of a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) name: Option<String>,
    pub(crate) email: Option<String>,
    pub(crate) email_is_verified: bool,
}

pub(crate) async fn insert(connection: &impl ConnectionTrait, known: Known) -> Result<Model, DbErr> {
    let row = ActiveModel {
        id: Set(PersonId::new().to_string()),
        name: Set(known.name),
        email: Set(known.email),
        email_is_verified: Set(known.email_is_verified),
        created_at_ms: Set(now_ms()),
        erased_at_ms: Set(None),
    };
    row.insert(connection).await
}

/// A person that was not erased.
pub(crate) async fn get(connection: &impl ConnectionTrait, id: &str) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).filter(Column::ErasedAtMs.is_null()).one(connection).await
}

/// A person that was not erased, whose row is locked until the transaction ends.
pub(crate) async fn lock(connection: &impl ConnectionTrait, id: &str) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).filter(Column::ErasedAtMs.is_null()).lock_exclusive().one(connection).await
}

/// Those of `ids`, erased ones included, in any order.
pub(crate) async fn of_ids(
    connection: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = String>,
) -> Result<Vec<Model>, DbErr> {
    Entity::find().filter(Column::Id.is_in(ids)).all(connection).await
}

/// Persons with this address that were not erased, at most `limit`.
pub(crate) async fn with_email(
    connection: &impl ConnectionTrait,
    email: &str,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let found = Entity::find().filter(Column::Email.eq(email)).filter(Column::ErasedAtMs.is_null());
    found.limit(limit).all(connection).await
}

/// Writes what a provider of identities says now.
pub(crate) async fn update(connection: &impl ConnectionTrait, id: &str, known: Known) -> Result<(), DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::Name, known.name.into())
        .col_expr(Column::Email, known.email.into())
        .col_expr(Column::EmailIsVerified, known.email_is_verified.into())
        .filter(Column::Id.eq(id))
        .filter(Column::ErasedAtMs.is_null());
    update.exec(connection).await.map(|_| ())
}

/// Empties a row; answers whether it was not empty before.
pub(crate) async fn erase(connection: &impl ConnectionTrait, id: &str) -> Result<bool, DbErr> {
    let nothing = || Expr::value(None::<String>);
    let update = Entity::update_many()
        .col_expr(Column::Name, nothing())
        .col_expr(Column::Email, nothing())
        .col_expr(Column::EmailIsVerified, false.into())
        .col_expr(Column::ErasedAtMs, now_ms().into())
        .filter(Column::Id.eq(id))
        .filter(Column::ErasedAtMs.is_null());
    Ok(update.exec(connection).await?.rows_affected > 0)
}
