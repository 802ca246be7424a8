//! Table `adapters`. A deleted adapter keeps its row, and with it its name.

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{ExprTrait as _, Func, LikeExpr};
use sea_orm::{Condition, IntoActiveModel as _, QueryOrder as _, QuerySelect as _, QueryTrait as _};

use super::clock::now_ms;
use crate::words::Visibility;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "adapters")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub tenant_id: String,
    pub owner: String,
    pub name: String,
    pub visibility: String,
    pub description: String,
    pub created_at_ms: i64,
    pub updated_at_ms: i64,
    pub deleted_at_ms: Option<i64>,
}
no_relations!();

/// Which adapters a list is to have.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// Only those of the tenant with this name.
    pub(crate) owner: Option<String>,
    /// Only those with this visibility.
    pub(crate) visibility: Option<Visibility>,
    /// Only those with this text in their name or description, in any case.
    pub(crate) search: Option<String>,
    /// Only those that come after this owner and name.
    pub(crate) after: Option<(String, String)>,
}

/// The adapter `owner/name`, unless it was deleted.
pub(crate) async fn live(connection: &impl ConnectionTrait, owner: &str, name: &str) -> Result<Option<Model>, DbErr> {
    named(owner, name).filter(Column::DeletedAtMs.is_null()).one(connection).await
}

/// The adapter `owner/name`, if it was not deleted and the tenant may see it.
pub(crate) async fn visible(
    connection: &impl ConnectionTrait,
    tenant_id: &str,
    owner: &str,
    name: &str,
) -> Result<Option<Model>, DbErr> {
    let live = named(owner, name).filter(Column::DeletedAtMs.is_null());
    live.filter(visible_to(tenant_id)).one(connection).await
}

/// The adapter `owner/name`, also if it was deleted.
pub(crate) async fn ever(connection: &impl ConnectionTrait, owner: &str, name: &str) -> Result<Option<Model>, DbErr> {
    named(owner, name).one(connection).await
}

/// The adapters with these ids.
pub(crate) async fn by_ids(
    connection: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = &str>,
) -> Result<Vec<Model>, DbErr> {
    Entity::find().filter(Column::Id.is_in(ids)).all(connection).await
}

/// Whether the name belongs to a deleted adapter.
pub(crate) async fn is_retired(connection: &impl ConnectionTrait, owner: &str, name: &str) -> Result<bool, DbErr> {
    let deleted = named(owner, name).filter(Column::DeletedAtMs.is_not_null());
    Ok(deleted.one(connection).await?.is_some())
}

/// The first `limit` adapters that the tenant may see and that `filter` lets through, by owner and name.
pub(crate) async fn list(
    connection: &impl ConnectionTrait,
    tenant_id: &str,
    filter: Filter,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    Entity::find()
        .filter(visible_to(tenant_id))
        .filter(Column::DeletedAtMs.is_null())
        .filter(filter.condition())
        .order_by_asc(Column::Owner)
        .order_by_asc(Column::Name)
        .limit(limit)
        .all(connection)
        .await
}

/// Every adapter that the tenant may see.
pub(crate) async fn all_visible(connection: &impl ConnectionTrait, tenant_id: &str) -> Result<Vec<Model>, DbErr> {
    Entity::find().filter(visible_to(tenant_id)).filter(Column::DeletedAtMs.is_null()).all(connection).await
}

/// The ids of what [`all_visible`] finds, as a part of another query: lists of ids in SQL are bounded.
pub(super) fn visible_ids(tenant_id: &str) -> sea_orm::sea_query::SelectStatement {
    let visible = Entity::find().filter(visible_to(tenant_id)).filter(Column::DeletedAtMs.is_null());
    visible.select_only().column(Column::Id).into_query()
}

pub(crate) async fn insert(connection: &impl ConnectionTrait, row: Model) -> Result<Model, DbErr> {
    row.into_active_model().reset_all().insert(connection).await
}

/// Writes visibility and description as they are in `row`.
pub(crate) async fn update(connection: &impl ConnectionTrait, row: &Model) -> Result<(), DbErr> {
    Entity::update_many()
        .col_expr(Column::Visibility, row.visibility.as_str().into())
        .col_expr(Column::Description, row.description.as_str().into())
        .col_expr(Column::UpdatedAtMs, row.updated_at_ms.into())
        .filter(Column::Id.eq(&row.id))
        .exec(connection)
        .await?;
    Ok(())
}

/// Notes that a version was added, and locks the row, so that the adapter cannot be deleted meanwhile. Answers whether
/// it is still there.
pub(crate) async fn touch(connection: &impl ConnectionTrait, id: &str) -> Result<bool, DbErr> {
    let update = Entity::update_many().col_expr(Column::UpdatedAtMs, now_ms().into());
    let live = update.filter(Column::Id.eq(id)).filter(Column::DeletedAtMs.is_null());
    Ok(live.exec(connection).await?.rows_affected > 0)
}

pub(crate) async fn delete(connection: &impl ConnectionTrait, id: &str) -> Result<(), DbErr> {
    let update = Entity::update_many().col_expr(Column::DeletedAtMs, now_ms().into());
    update.filter(Column::Id.eq(id)).exec(connection).await?;
    Ok(())
}

fn named(owner: &str, name: &str) -> Select<Entity> {
    Entity::find().filter(Column::Owner.eq(owner)).filter(Column::Name.eq(name))
}

/// The condition under which a tenant may see an adapter.
fn visible_to(tenant_id: &str) -> Condition {
    let public = Column::Visibility.eq(Visibility::Public.as_str());
    Condition::any().add(Column::TenantId.eq(tenant_id)).add(public)
}

impl Filter {
    fn condition(self) -> Condition {
        let after = self.after.map(|(owner, name)| {
            let same_owner = Condition::all().add(Column::Owner.eq(owner.clone())).add(Column::Name.gt(name));
            Condition::any().add(Column::Owner.gt(owner)).add(same_owner)
        });
        Condition::all()
            .add_option(self.owner.map(|owner| Column::Owner.eq(owner)))
            .add_option(self.visibility.map(|visibility| Column::Visibility.eq(visibility.as_str())))
            .add_option(self.search.map(|text| {
                let pattern = format!("%{}%", escaped(&text.to_lowercase()));
                let has_text = |column: Column| {
                    let pattern = LikeExpr::new(pattern.clone()).escape('\\');
                    Expr::expr(Func::lower(Expr::col(column))).like(pattern)
                };
                Condition::any().add(has_text(Column::Name)).add(has_text(Column::Description))
            }))
            .add_option(after)
    }
}

/// A text that is meant as it stands: `_` and `%` are no wildcards in it.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '\\' | '%' | '_') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}
