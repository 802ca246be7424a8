//! Table `hook_lines`: what hooks said and how they failed, for their owners.

use sea_orm::entity::prelude::*;
use sea_orm::{IntoActiveModel as _, QueryOrder as _, QuerySelect as _};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "hook_lines")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub hook_id: String,
    pub version: String,
    /// Whose request it was in.
    pub tenant_id: String,
    pub at_ms: i64,
    pub request_id: Option<String>,
    /// A level of a log, or `failed`.
    pub kind: String,
    pub part: Option<String>,
    pub code: Option<String>,
    pub text: Option<String>,
}
no_relations!();

pub(crate) async fn insert_all(connection: &impl ConnectionTrait, rows: Vec<Model>) -> Result<(), DbErr> {
    let rows = rows.into_iter().map(|row| row.into_active_model().reset_all());
    Entity::insert_many(rows).exec_without_returning(connection).await.map(|_| ())
}

/// Removes all but the last `kept` lines of a hook.
pub(crate) async fn delete_older(connection: &impl ConnectionTrait, hook_id: &str, kept: u64) -> Result<(), DbErr> {
    let of_hook = Entity::find().select_only().column(Column::Id).filter(Column::HookId.eq(hook_id));
    let first_old = of_hook.order_by_desc(Column::Id).offset(kept).limit(1);
    let Some(first_old) = first_old.into_tuple::<String>().one(connection).await? else { return Ok(()) };
    let old = Entity::delete_many().filter(Column::HookId.eq(hook_id)).filter(Column::Id.lte(first_old));
    old.exec(connection).await.map(|_| ())
}

/// The lines of a hook before the one with the id `before`, the last first; only failures if so asked.
pub(crate) async fn list(
    connection: &impl ConnectionTrait,
    hook_id: &str,
    only_failures: bool,
    before: Option<String>,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let mut of_hook = Entity::find().filter(Column::HookId.eq(hook_id));
    if only_failures {
        of_hook = of_hook.filter(Column::Kind.eq(FAILED));
    }
    if let Some(before) = before {
        of_hook = of_hook.filter(Column::Id.lt(before));
    }
    of_hook.order_by_desc(Column::Id).limit(limit).all(connection).await
}

/// The kind of a failure.
pub(crate) const FAILED: &str = "failed";

pub(crate) async fn delete_of_hook(connection: &impl ConnectionTrait, hook_id: &str) -> Result<(), DbErr> {
    Entity::delete_many().filter(Column::HookId.eq(hook_id)).exec(connection).await.map(|_| ())
}
