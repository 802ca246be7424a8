//! Table `adapters`. A deleted adapter keeps its row, and with it its name.

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{ExprTrait as _, Func, LikeExpr};
use sea_orm::{Condition, IntoActiveModel as _, QueryOrder as _, QuerySelect as _, QueryTrait as _};

use super::clock::now_ms;
use super::versions;
use crate::words::{VersionState, Visibility};

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
    /// Its visibility while the list of models has it, else empty; see [`relist`].
    pub listed_as: String,
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

/// The first `limit` adapters that the tenant may see and that `filter` lets through, by owner and name. Its own and the
/// public ones of others are two questions, each of which an index answers in order, so that what others hide costs
/// nothing.
pub(crate) async fn list(
    connection: &impl ConnectionTrait,
    tenant_id: &str,
    filter: &Filter,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let own = existing().filter(Column::TenantId.eq(tenant_id)).filter(filter.condition());
    let mut found = in_order(own, limit).all(connection).await?;
    if filter.visibility != Some(Visibility::Private) {
        let public = existing().filter(Column::Visibility.eq(Visibility::Public.as_str()));
        let of_others = public.filter(Column::TenantId.ne(tenant_id)).filter(filter.condition());
        found.extend(in_order(of_others, limit).all(connection).await?);
        found.sort_by(|a, b| (&a.owner, &a.name).cmp(&(&b.owner, &b.name)));
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    Ok(found)
}

/// Owner, name and moment of making of the tenant's own adapters that have a ready version, by owner and name.
pub(crate) async fn own_listed(connection: &impl ConnectionTrait, tenant_id: &str) -> Result<Vec<Listed>, DbErr> {
    let own = existing().filter(Column::TenantId.eq(tenant_id)).filter(Column::ListedAs.ne(""));
    as_listed(in_order(own, u64::MAX >> 1)).all(connection).await
}

/// The same of the first `limit` public adapters of others.
pub(crate) async fn public_listed(
    connection: &impl ConnectionTrait,
    tenant_id: &str,
    limit: u64,
) -> Result<Vec<Listed>, DbErr> {
    let public = Entity::find().filter(Column::ListedAs.eq(Visibility::Public.as_str()));
    let of_others = public.filter(Column::TenantId.ne(tenant_id));
    as_listed(in_order(of_others, limit)).all(connection).await
}

/// Owner, name, and when it was made.
pub(crate) type Listed = (String, String, i64);

fn as_listed(query: Select<Entity>) -> sea_orm::Selector<sea_orm::SelectGetableTuple<Listed>> {
    query.select_only().columns([Column::Owner, Column::Name, Column::CreatedAtMs]).into_tuple()
}

fn in_order(query: Select<Entity>, limit: u64) -> Select<Entity> {
    query.order_by_asc(Column::Owner).order_by_asc(Column::Name).limit(limit)
}

fn existing() -> Select<Entity> {
    Entity::find().filter(Column::DeletedAtMs.is_null())
}

/// How many adapters a tenant has.
pub(crate) async fn count_of(connection: &impl ConnectionTrait, tenant_id: &str) -> Result<u64, DbErr> {
    existing().filter(Column::TenantId.eq(tenant_id)).count(connection).await
}

/// Brings [`Model::listed_as`] of these adapters up to date. Part of every transaction that changes whether an adapter is
/// there, who may see it, or which of its versions are ready.
pub(crate) async fn relist(
    connection: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = &str>,
) -> Result<(), DbErr> {
    let versions = (versions::Entity, versions::Column::AdapterId);
    let ready = versions::Entity::find()
        .select_only()
        .column(versions::Column::Id)
        .filter(versions::Column::State.eq(VersionState::Ready.as_str()))
        .filter(Expr::col(versions).equals((Entity, Column::Id)))
        .into_query();
    let is_listed = Condition::all().add(Column::DeletedAtMs.is_null()).add(Expr::exists(ready));
    let listed_as = Expr::case(is_listed, Expr::col(Column::Visibility)).finally("");
    let update = Entity::update_many().col_expr(Column::ListedAs, listed_as.into());
    update.filter(Column::Id.is_in(ids)).exec(connection).await.map(|_| ())
}

pub(crate) async fn insert(connection: &impl ConnectionTrait, row: Model) -> Result<Model, DbErr> {
    row.into_active_model().reset_all().insert(connection).await
}

/// Writes visibility and description as they are in `row`; answers whether the adapter is still there. [`relist`] goes
/// with it.
pub(crate) async fn update(connection: &impl ConnectionTrait, row: &Model) -> Result<bool, DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::Visibility, row.visibility.as_str().into())
        .col_expr(Column::Description, row.description.as_str().into())
        .col_expr(Column::UpdatedAtMs, row.updated_at_ms.into())
        .filter(Column::Id.eq(&row.id))
        .filter(Column::DeletedAtMs.is_null());
    Ok(update.exec(connection).await?.rows_affected > 0)
}

/// Notes that a version was added, and locks the row, so that the adapter cannot be deleted meanwhile. Answers whether
/// it is still there.
pub(crate) async fn touch(connection: &impl ConnectionTrait, id: &str) -> Result<bool, DbErr> {
    let update = Entity::update_many().col_expr(Column::UpdatedAtMs, now_ms().into());
    let live = update.filter(Column::Id.eq(id)).filter(Column::DeletedAtMs.is_null());
    Ok(live.exec(connection).await?.rows_affected > 0)
}

/// Answers whether it was still there.
pub(crate) async fn delete(connection: &impl ConnectionTrait, id: &str) -> Result<bool, DbErr> {
    // What is kept of it is its name.
    let update = Entity::update_many()
        .col_expr(Column::DeletedAtMs, now_ms().into())
        .col_expr(Column::Description, "".into())
        .col_expr(Column::ListedAs, "".into());
    let live = update.filter(Column::Id.eq(id)).filter(Column::DeletedAtMs.is_null());
    Ok(live.exec(connection).await?.rows_affected > 0)
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
    fn condition(&self) -> Condition {
        // Compared as a pair, so that an index begins to read where the page does.
        let after = self.after.as_ref().map(|(owner, name)| {
            let pair = Expr::tuple([Expr::col(Column::Owner), Expr::col(Column::Name)]);
            pair.gt(Expr::tuple([Expr::val(owner.as_str()), Expr::val(name.as_str())]))
        });
        Condition::all()
            .add_option(self.owner.as_ref().map(|owner| Column::Owner.eq(owner)))
            .add_option(self.visibility.map(|visibility| Column::Visibility.eq(visibility.as_str())))
            .add_option(self.search.as_ref().map(|text| {
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
