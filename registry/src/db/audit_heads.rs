//! Table `audit_heads`: where each chain of audit entries ends.

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use sea_orm::{QuerySelect as _, Set};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_heads")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: String,
    /// Of the last entry; 0 before the first.
    pub number: i64,
    /// Of the last entry.
    pub hash: String,
}
no_relations!();

/// The end of a chain, a tenant's or the installation's, as it is now; `None` for one that was never begun.
pub(crate) async fn get(connection: &impl ConnectionTrait, chain: &str) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(chain).one(connection).await
}

/// The end of a chain, which nobody else moves before the transaction ends. `first` is the hash that the first entry follows.
pub(crate) async fn lock(connection: &impl ConnectionTrait, chain: &str, first: &str) -> Result<Model, DbErr> {
    let locked = || Entity::find_by_id(chain).lock_exclusive();
    if let Some(head) = locked().one(connection).await? {
        return Ok(head);
    }
    let row = ActiveModel { tenant_id: Set(chain.to_owned()), number: Set(0), hash: Set(first.to_owned()) };
    // Of two who begin a chain at once, the second waits here for the first's row.
    let once = OnConflict::column(Column::TenantId).do_nothing().to_owned();
    Entity::insert(row).on_conflict(once).exec_without_returning(connection).await?;
    locked().one(connection).await?.ok_or_else(|| DbErr::RecordNotFound(format!("audit head of {chain}")))
}

/// Moves the end of a chain that [`lock`] gave.
pub(crate) async fn advance(connection: &impl ConnectionTrait, head: Model) -> Result<(), DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::Number, head.number.into())
        .col_expr(Column::Hash, head.hash.into())
        .filter(Column::TenantId.eq(head.tenant_id));
    update.exec(connection).await.map(|_| ())
}
