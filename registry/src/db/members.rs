//! Table `members`: who is what in which tenant.

use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder as _, QuerySelect as _, Set};
use souk_protocol::limits::Subject;
use souk_protocol::{PersonId, TenantId};

use super::clock::now_ms;
use super::tenants;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "members")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub person_id: String,
    pub role: String,
    pub joined_at_ms: i64,
    /// The team that the person is of; `None`: of none.
    pub team_id: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    #[sea_orm(belongs_to = "tenants::Entity", from = "Column::TenantId", to = "tenants::Column::Id")]
    Tenant,
}

impl Related<tenants::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Tenant.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    pub(crate) fn tenant(&self) -> TenantId {
        TenantId::from_stored(&self.tenant_id)
    }

    /// The member as whom limits bind.
    pub(crate) fn subject(&self) -> Subject {
        Subject::Member(self.tenant(), PersonId::from_stored(&self.person_id))
    }
}

pub(crate) async fn get(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    person_id: &str,
) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id((tenant.to_string(), person_id.to_owned())).one(connection).await
}

/// A member with the tenant.
pub(crate) async fn with_tenant(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    person_id: &str,
) -> Result<Option<(Model, tenants::Model)>, DbErr> {
    let found = Entity::find_by_id((tenant.to_string(), person_id.to_owned())).find_also_related(tenants::Entity);
    Ok(found.one(connection).await?.and_then(|(member, tenant)| Some((member, tenant?))))
}

/// The tenants that a person is a member of, at most `limit`, by name.
pub(crate) async fn of_person(
    connection: &impl ConnectionTrait,
    person_id: &str,
    limit: u64,
) -> Result<Vec<(Model, tenants::Model)>, DbErr> {
    let found = Entity::find().filter(Column::PersonId.eq(person_id)).find_also_related(tenants::Entity);
    let found = found.order_by_asc(tenants::Column::Name).limit(limit).all(connection).await?;
    Ok(found.into_iter().filter_map(|(member, tenant)| Some((member, tenant?))).collect())
}

/// The next `limit` members of a tenant after the person `after`, by the persons' ids.
pub(crate) async fn list(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    after: Option<String>,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let mut query =
        Entity::find().filter(Column::TenantId.eq(tenant.as_str())).order_by_asc(Column::PersonId).limit(limit);
    if let Some(person) = after {
        query = query.filter(Column::PersonId.gt(person));
    }
    query.all(connection).await
}

/// Those of these persons who are members of a tenant.
pub(crate) async fn among(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    persons: &[String],
) -> Result<Vec<String>, DbErr> {
    let members = Entity::find().select_only().column(Column::PersonId).filter(Column::TenantId.eq(tenant.as_str()));
    members.filter(Column::PersonId.is_in(persons)).into_tuple().all(connection).await
}

/// Removes all members of a tenant; answers who they were.
pub(crate) async fn delete_all_of(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<Vec<String>, DbErr> {
    let of_tenant = Column::TenantId.eq(tenant.as_str());
    let persons = Entity::find().select_only().column(Column::PersonId).filter(of_tenant.clone());
    let persons = persons.order_by_asc(Column::PersonId).into_tuple().all(connection).await?;
    Entity::delete_many().filter(of_tenant).exec(connection).await?;
    Ok(persons)
}

/// How many members a tenant has; of one role, or in all.
pub(crate) async fn count_of(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    role: Option<&str>,
) -> Result<u64, DbErr> {
    let mut query = Entity::find().filter(Column::TenantId.eq(tenant.as_str()));
    if let Some(role) = role {
        query = query.filter(Column::Role.eq(role));
    }
    query.count(connection).await
}

/// In how many tenants a person has this role.
pub(crate) async fn count_as(connection: &impl ConnectionTrait, person_id: &str, role: &str) -> Result<u64, DbErr> {
    Entity::find().filter(Column::PersonId.eq(person_id)).filter(Column::Role.eq(role)).count(connection).await
}

/// A unique violation says that the person is a member.
pub(crate) async fn insert(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    person_id: &str,
    role: &str,
) -> Result<Model, DbErr> {
    let row = ActiveModel {
        tenant_id: Set(tenant.to_string()),
        person_id: Set(person_id.to_owned()),
        role: Set(role.to_owned()),
        joined_at_ms: Set(now_ms()),
        team_id: Set(None),
    };
    row.insert(connection).await
}

pub(crate) async fn set_role(connection: &impl ConnectionTrait, member: &Model, role: &str) -> Result<(), DbErr> {
    let update = Entity::update_many().col_expr(Column::Role, role.into());
    update.filter(is(member)).exec(connection).await.map(|_| ())
}

/// Puts a member into a team, or out of the one that it is of.
pub(crate) async fn set_team(
    connection: &impl ConnectionTrait,
    member: &Model,
    team_id: Option<&str>,
) -> Result<(), DbErr> {
    let update = Entity::update_many().col_expr(Column::TeamId, team_id.into());
    update.filter(is(member)).exec(connection).await.map(|_| ())
}

/// Leaves the members of a team without one; answers how many they were.
pub(crate) async fn leave_team(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    team_id: &str,
) -> Result<u64, DbErr> {
    let update = Entity::update_many().col_expr(Column::TeamId, Option::<String>::None.into());
    let of_team = update.filter(Column::TenantId.eq(tenant.as_str())).filter(Column::TeamId.eq(team_id));
    Ok(of_team.exec(connection).await?.rows_affected)
}

pub(crate) async fn delete(connection: &impl ConnectionTrait, member: &Model) -> Result<(), DbErr> {
    Entity::delete_many().filter(is(member)).exec(connection).await.map(|_| ())
}

fn is(member: &Model) -> sea_orm::Condition {
    let of_tenant = Column::TenantId.eq(&member.tenant_id);
    sea_orm::Condition::all().add(of_tenant).add(Column::PersonId.eq(&member.person_id))
}
