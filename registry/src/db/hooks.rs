//! Table `hooks`. A deleted hook keeps its row, and with it its name.
//!
//! Whoever reads hooks for a tenant does so under one condition ([`visible_to`]): what a tenant may see it may attach.

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{ExprTrait as _, Func, LikeExpr};
use sea_orm::{Condition, IntoActiveModel as _, QueryOrder as _, QuerySelect as _, QueryTrait as _};
use souk_protocol::{HookName, TenantId};

use super::adapters::escaped;
use super::clock::now_ms;
use super::hook_grants;
use crate::words::Visibility;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "hooks")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub tenant_id: String,
    pub owner: String,
    pub name: String,
    pub visibility: String,
    pub description: String,
    /// A key or session, or [`INSTALLATION`].
    pub made_by: String,
    pub created_at_ms: i64,
    pub updated_at_ms: i64,
    pub deleted_at_ms: Option<i64>,
}
no_relations!();

/// Who made what an installation begins with.
pub(crate) const INSTALLATION: &str = "installation";

impl Model {
    pub(crate) fn tenant(&self) -> TenantId {
        TenantId::from_stored(&self.tenant_id)
    }

    /// `owner/name`.
    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }
}

/// Which hooks a list is to have.
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

/// The hook `owner/name`, if it was not deleted and the tenant may see it. What the tenant may not see and what is not
/// there take the same one query.
pub(crate) async fn seen_by(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    owner: &str,
    name: &str,
) -> Result<Option<Model>, DbErr> {
    named(owner, name).filter(Column::DeletedAtMs.is_null()).filter(visible_to(tenant)).one(connection).await
}

/// Those of these hooks that a tenant may see.
pub(crate) async fn seen_of(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    ids: impl IntoIterator<Item = &str>,
) -> Result<Vec<Model>, DbErr> {
    let seen = Entity::find().filter(Column::Id.is_in(ids)).filter(Column::DeletedAtMs.is_null());
    seen.filter(visible_to(tenant)).all(connection).await
}

/// The hook `owner/name`, unless it was deleted.
pub(crate) async fn live(connection: &impl ConnectionTrait, owner: &str, name: &str) -> Result<Option<Model>, DbErr> {
    named(owner, name).filter(Column::DeletedAtMs.is_null()).one(connection).await
}

/// The hook `owner/name`, also if it was deleted.
pub(crate) async fn ever(connection: &impl ConnectionTrait, owner: &str, name: &str) -> Result<Option<Model>, DbErr> {
    named(owner, name).one(connection).await
}

pub(crate) async fn by_ids(
    connection: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = &str>,
) -> Result<Vec<Model>, DbErr> {
    Entity::find().filter(Column::Id.is_in(ids)).all(connection).await
}

/// The first `limit` hooks that the tenant may see and that `filter` lets through, by owner and name.
pub(crate) async fn list(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    filter: &Filter,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let seen = Entity::find().filter(Column::DeletedAtMs.is_null()).filter(visible_to(tenant));
    let asked = seen.filter(filter.condition());
    asked.order_by_asc(Column::Owner).order_by_asc(Column::Name).limit(limit).all(connection).await
}

/// How many hooks a tenant has.
pub(crate) async fn count_of(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<u64, DbErr> {
    let own = Entity::find().filter(Column::TenantId.eq(tenant.as_str()));
    own.filter(Column::DeletedAtMs.is_null()).count(connection).await
}

/// Some hook of a tenant that was not deleted.
pub(crate) async fn any_of(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<Option<Model>, DbErr> {
    let own = Entity::find().filter(Column::TenantId.eq(tenant.as_str()));
    own.filter(Column::DeletedAtMs.is_null()).one(connection).await
}

pub(crate) async fn insert(connection: &impl ConnectionTrait, row: Model) -> Result<Model, DbErr> {
    row.into_active_model().reset_all().insert(connection).await
}

/// Writes visibility and description as they are in `row`; answers whether the hook is still there.
pub(crate) async fn update(connection: &impl ConnectionTrait, row: &Model) -> Result<bool, DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::Visibility, row.visibility.as_str().into())
        .col_expr(Column::Description, row.description.as_str().into())
        .col_expr(Column::UpdatedAtMs, row.updated_at_ms.into())
        .filter(Column::Id.eq(&row.id))
        .filter(Column::DeletedAtMs.is_null());
    Ok(update.exec(connection).await?.rows_affected > 0)
}

/// Notes that a version was added, and locks the row, so that the hook cannot be deleted meanwhile. Answers whether it is
/// still there.
pub(crate) async fn touch(connection: &impl ConnectionTrait, id: &str) -> Result<bool, DbErr> {
    let update = Entity::update_many().col_expr(Column::UpdatedAtMs, now_ms().into());
    let live = update.filter(Column::Id.eq(id)).filter(Column::DeletedAtMs.is_null());
    Ok(live.exec(connection).await?.rows_affected > 0)
}

/// Locks the row of a hook; answers whether it is there and was not deleted.
pub(crate) async fn lock(connection: &impl ConnectionTrait, id: &str) -> Result<bool, DbErr> {
    let live = Entity::find_by_id(id).filter(Column::DeletedAtMs.is_null());
    Ok(live.lock_exclusive().one(connection).await?.is_some())
}

/// Answers whether it was still there.
pub(crate) async fn delete(connection: &impl ConnectionTrait, id: &str) -> Result<bool, DbErr> {
    // What is kept of it is its name.
    let update =
        Entity::update_many().col_expr(Column::DeletedAtMs, now_ms().into()).col_expr(Column::Description, "".into());
    let live = update.filter(Column::Id.eq(id)).filter(Column::DeletedAtMs.is_null());
    Ok(live.exec(connection).await?.rows_affected > 0)
}

fn named(owner: &str, name: &str) -> Select<Entity> {
    Entity::find().filter(Column::Owner.eq(owner)).filter(Column::Name.eq(name))
}

/// The condition under which a tenant may see a hook, and attach it.
fn visible_to(tenant: &TenantId) -> Condition {
    let granted = hook_grants::Entity::find()
        .select_only()
        .column(hook_grants::Column::HookId)
        .filter(Expr::col((hook_grants::Entity, hook_grants::Column::HookId)).equals((Entity, Column::Id)))
        .filter(hook_grants::Column::TenantId.eq(tenant.as_str()))
        .into_query();
    let shared = Column::Visibility.eq(Visibility::Shared.as_str());
    Condition::any()
        .add(Column::TenantId.eq(tenant.as_str()))
        .add(Column::Visibility.eq(Visibility::Public.as_str()))
        .add(Condition::all().add(shared).add(Expr::exists(granted)))
}

impl Filter {
    fn condition(&self) -> Condition {
        let after = self.after.as_ref().map(|(owner, name)| {
            let later = Condition::all().add(Column::Owner.eq(owner.as_str())).add(Column::Name.gt(name.as_str()));
            Condition::any().add(Column::Owner.gt(owner.as_str())).add(later)
        });
        Condition::all()
            .add_option(self.owner.as_ref().map(|owner| Column::Owner.eq(owner.as_str())))
            .add_option(self.visibility.map(|visibility| Column::Visibility.eq(visibility.as_str())))
            .add_option(self.search.as_deref().map(with_text))
            .add_option(after)
    }
}

/// With this text in name or description, in any case.
fn with_text(text: &str) -> Condition {
    let pattern = format!("%{}%", escaped(&text.to_lowercase()));
    let has_text = |column: Column| {
        let pattern = LikeExpr::new(pattern.clone()).escape('\\');
        Expr::expr(Func::lower(Expr::col((Entity, column)))).like(pattern)
    };
    Condition::any().add(has_text(Column::Name)).add(has_text(Column::Description))
}

/// The name of a row, which was checked when it was made.
pub(crate) fn name_of(row: &Model) -> HookName {
    HookName::new(&row.owner, &row.name).expect("only checked names are stored")
}
