//! Table `adapters`. A deleted adapter keeps its row, and with it its name.
//!
//! Whoever reads adapters for a tenant does so under one of two conditions: that the tenant may see it ([`visible_to`]) or
//! that it may call it ([`callable_by`]).

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{ExprTrait as _, Func, LikeExpr, SelectStatement};
use sea_orm::{
    Condition, FromQueryResult, IntoActiveModel as _, JoinType, QueryOrder as _, QuerySelect as _, QueryTrait as _,
};
use souk_protocol::{AllowedModels, ModelPattern, TenantId};

use super::clock::now_ms;
use super::{adapter_grants, versions};
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

impl Model {
    pub(crate) fn tenant(&self) -> TenantId {
        TenantId::from_stored(&self.tenant_id)
    }

    /// `owner/name`.
    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }
}

/// An adapter that a tenant may see.
#[derive(Debug, FromQueryResult)]
pub(crate) struct Seen {
    #[sea_orm(nested)]
    pub(crate) row: Model,
    /// 1 if the tenant may call it and fetch its files, else 0.
    is_callable: i32,
}

impl Seen {
    /// Whether the tenant may call it and fetch its files.
    pub(crate) fn is_callable(&self) -> bool {
        self.is_callable == 1
    }
}

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

/// The adapter `owner/name`, if it was not deleted and the tenant may see it. What the tenant may not see and what is not
/// there take the same one query.
pub(crate) async fn seen_by(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    owner: &str,
    name: &str,
) -> Result<Option<Seen>, DbErr> {
    let is_callable = Expr::case(callable_by(connection, tenant), Expr::cust("1")).finally(Expr::cust("0"));
    let seen = named(owner, name).filter(Column::DeletedAtMs.is_null()).filter(visible_to(connection, tenant));
    seen.expr_as(is_callable, "is_callable").into_model::<Seen>().one(connection).await
}

/// Those of these adapters that a tenant may see, and its own that were deleted.
pub(crate) async fn known_to(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    ids: impl IntoIterator<Item = &str>,
) -> Result<Vec<Model>, DbErr> {
    let known = Entity::find().filter(Column::Id.is_in(ids)).filter(is_known_to(connection, tenant));
    known.all(connection).await
}

/// The same for the one with a name.
pub(crate) async fn named_to(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    owner: &str,
    name: &str,
) -> Result<Option<Model>, DbErr> {
    named(owner, name).filter(is_known_to(connection, tenant)).one(connection).await
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

/// The first `limit` adapters that the tenant may see and that `filter` lets through, by owner and name. Its own, those of
/// others that are public or gated, and those that it was granted are a question each, which an index answers in order,
/// so that what others hide costs nothing. Together they are what [`visible_to`] says.
pub(crate) async fn list(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    filter: &Filter,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let own = existing().filter(Column::TenantId.eq(tenant.as_str())).filter(filter.condition(Entity));
    let mut found = in_order(own, limit).all(connection).await?;
    let is_asked_for = |visibility| filter.visibility.is_none_or(|asked| asked == visibility);
    for visibility in [Visibility::Public, Visibility::Gated].into_iter().filter(|one| is_asked_for(*one)) {
        let of_all = existing().filter(Column::Visibility.eq(visibility.as_str()));
        let of_others = of_all.filter(Column::TenantId.ne(tenant.as_str())).filter(filter.condition(Entity));
        found.extend(in_order(of_others, limit).all(connection).await?);
    }
    if is_asked_for(Visibility::Shared) {
        let shared = granted_to(connection, tenant).filter(Column::DeletedAtMs.is_null());
        let shared = shared.filter(Column::Visibility.eq(Visibility::Shared.as_str()));
        let shared = shared.filter(filter.condition(adapter_grants::Entity));
        found.extend(in_order_of_grants(shared, limit).all(connection).await?);
    }
    found.sort_by(|a, b| (&a.owner, &a.name).cmp(&(&b.owner, &b.name)));
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(found)
}

/// Owner, name and moment of making of the tenant's own adapters that have a ready version, by owner and name.
pub(crate) async fn own_listed(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<Vec<Listed>, DbErr> {
    let own = existing().filter(Column::TenantId.eq(tenant.as_str())).filter(Column::ListedAs.ne(""));
    as_listed(in_order(own, u64::MAX >> 1)).all(connection).await
}

/// The same of the first `limit` that the tenant was granted.
pub(crate) async fn granted_listed(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    limit: u64,
) -> Result<Vec<Listed>, DbErr> {
    let granted = granted_to(connection, tenant).filter(Column::ListedAs.is_in(GRANTED));
    as_listed(in_order_of_grants(granted, limit)).all(connection).await
}

/// The same of the first `limit` public adapters of others.
pub(crate) async fn public_listed(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    limit: u64,
) -> Result<Vec<Listed>, DbErr> {
    let public = Entity::find().filter(Column::ListedAs.eq(Visibility::Public.as_str()));
    let of_others = public.filter(Column::TenantId.ne(tenant.as_str()));
    as_listed(in_order(of_others, limit)).all(connection).await
}

/// The same of the first `limit` that a key's list of models names and the tenant may call.
pub(crate) async fn allowed_listed(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    allowed: &AllowedModels,
    limit: u64,
) -> Result<Vec<Listed>, DbErr> {
    let mut named = Condition::any();
    for pattern in allowed.patterns() {
        named = match pattern {
            ModelPattern::Base(_) => named,
            ModelPattern::Owner(owner) => named.add(Column::Owner.eq(owner)),
            ModelPattern::Adapter(reference) => {
                let name = Column::Name.eq(reference.name.name());
                named.add(Condition::all().add(Column::Owner.eq(reference.name.owner())).add(name))
            }
        };
    }
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let listed = existing().filter(Column::ListedAs.ne("")).filter(named).filter(callable_by(connection, tenant));
    as_listed(in_order(listed, limit)).all(connection).await
}

/// Owner, name, and when it was made.
pub(crate) type Listed = (String, String, i64);

fn as_listed(query: Select<Entity>) -> sea_orm::Selector<sea_orm::SelectGetableTuple<Listed>> {
    query.select_only().columns([Column::Owner, Column::Name, Column::CreatedAtMs]).into_tuple()
}

/// The adapters that a tenant was granted and still is, whatever their visibility says of that now.
fn granted_to(connection: &impl ConnectionTrait, tenant: &TenantId) -> Select<Entity> {
    let granted = Entity::belongs_to(adapter_grants::Entity).from(Column::Id).to(adapter_grants::Column::AdapterId);
    let joined = Entity::find().join(JoinType::InnerJoin, granted.into());
    joined.filter(adapter_grants::held_by(connection, tenant))
}

/// By owner and name as the grants repeat them, which is the order of their index.
fn in_order_of_grants(query: Select<Entity>, limit: u64) -> Select<Entity> {
    query.order_by_asc(adapter_grants::Column::Owner).order_by_asc(adapter_grants::Column::Name).limit(limit)
}

fn in_order(query: Select<Entity>, limit: u64) -> Select<Entity> {
    query.order_by_asc(Column::Owner).order_by_asc(Column::Name).limit(limit)
}

fn existing() -> Select<Entity> {
    Entity::find().filter(Column::DeletedAtMs.is_null())
}

/// Some adapter of a tenant that was not deleted.
pub(crate) async fn any_of(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<Option<Model>, DbErr> {
    existing().filter(Column::TenantId.eq(tenant.as_str())).one(connection).await
}

/// How many adapters a tenant has.
pub(crate) async fn count_of(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<u64, DbErr> {
    existing().filter(Column::TenantId.eq(tenant.as_str())).count(connection).await
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

/// The words of what takes a grant to be called.
const GRANTED: [&str; 2] = [Visibility::Shared.as_str(), Visibility::Gated.as_str()];

/// The condition under which a tenant may see an adapter.
fn visible_to(connection: &impl ConnectionTrait, tenant: &TenantId) -> Condition {
    let seen_by_all = Column::Visibility.is_in([Visibility::Public.as_str(), Visibility::Gated.as_str()]);
    let shared = Column::Visibility.eq(Visibility::Shared.as_str());
    let shared_with_it = Condition::all().add(shared).add(Expr::exists(grant_held(connection, tenant)));
    Condition::any().add(Column::TenantId.eq(tenant.as_str())).add(seen_by_all).add(shared_with_it)
}

/// The condition under which a tenant is told an adapter's name where it was used.
fn is_known_to(connection: &impl ConnectionTrait, tenant: &TenantId) -> Condition {
    let is_there = Condition::any().add(Column::DeletedAtMs.is_null()).add(Column::TenantId.eq(tenant.as_str()));
    Condition::all().add(is_there).add(visible_to(connection, tenant))
}

/// The condition under which a tenant may call an adapter and fetch its files. What it may call it may see.
fn callable_by(connection: &impl ConnectionTrait, tenant: &TenantId) -> Condition {
    let public = Column::Visibility.eq(Visibility::Public.as_str());
    let granted =
        Condition::all().add(Column::Visibility.is_in(GRANTED)).add(Expr::exists(grant_held(connection, tenant)));
    Condition::any().add(Column::TenantId.eq(tenant.as_str())).add(public).add(granted)
}

/// A grant of the adapter to the tenant that holds now.
fn grant_held(connection: &impl ConnectionTrait, tenant: &TenantId) -> SelectStatement {
    let held = adapter_grants::Entity::find().select_only().column(adapter_grants::Column::AdapterId);
    let is_of_it = Expr::col((adapter_grants::Entity, adapter_grants::Column::AdapterId)).equals((Entity, Column::Id));
    held.filter(adapter_grants::held_by(connection, tenant)).filter(is_of_it).into_query()
}

impl Filter {
    /// Owner and name are compared in `table`, which has them in the order of an index.
    fn condition<T: EntityTrait>(&self, table: T) -> Condition {
        let owner = || Expr::col((table, "owner"));
        // Compared as a pair, so that an index begins to read where the page does.
        let after = self.after.as_ref().map(|(after_owner, after_name)| {
            let pair = Expr::tuple([owner(), Expr::col((table, "name"))]);
            pair.gt(Expr::tuple([Expr::val(after_owner.as_str()), Expr::val(after_name.as_str())]))
        });
        Condition::all()
            .add_option(self.owner.as_ref().map(|name| owner().eq(name.as_str())))
            .add_option(self.visibility.map(|visibility| Column::Visibility.eq(visibility.as_str())))
            .add_option(self.search.as_ref().map(|text| {
                let pattern = format!("%{}%", escaped(&text.to_lowercase()));
                let has_text = |column: Column| {
                    let pattern = LikeExpr::new(pattern.clone()).escape('\\');
                    Expr::expr(Func::lower(Expr::col((Entity, column)))).like(pattern)
                };
                Condition::any().add(has_text(Column::Name)).add(has_text(Column::Description))
            }))
            .add_option(after)
    }
}

/// A text that is meant as it stands: `_` and `%` are no wildcards in it.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '\\' | '%' | '_') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}
