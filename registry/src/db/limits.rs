//! Table `limits`: what tenants, teams, members and keys may use in a period.

use std::collections::BTreeMap;

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{ExprTrait as _, OnConflict};
use sea_orm::{Condition, IntoActiveModel as _, QueryOrder as _, QuerySelect as _};
use souk_protocol::limits::{Limit, Mode, Policy, Subject};
use souk_protocol::{KeyId, PersonId, TeamId, TenantId};

use super::clock::now_ms;
use super::connection::MAX_IN;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "limits")]
pub struct Model {
    /// The tenant whose subject it is.
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub level: String,
    /// The id of a tenant, a team, a person or a key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub subject_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub policy: String,
    pub value: i64,
    /// From where it is told, and nothing refused.
    pub soft: Option<i64>,
    pub mode: String,
    pub updated_at_ms: i64,
}
no_relations!();

impl Model {
    /// A limit of `subject`, which is the tenant's.
    pub(crate) fn of(tenant: &TenantId, subject: &Subject, policy: Policy, limit: Limit) -> Self {
        let number = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
        Self {
            tenant_id: tenant.to_string(),
            level: subject.level().to_owned(),
            subject_id: subject.id().to_owned(),
            policy: policy.as_str().to_owned(),
            value: number(limit.value),
            soft: limit.soft.map(number),
            mode: mode_to_column(limit.mode).to_owned(),
            updated_at_ms: now_ms(),
        }
    }

    /// Whose it is; `None` at a level that this program does not know.
    pub(crate) fn subject(&self) -> Option<Subject> {
        subject_of(&TenantId::from_stored(&self.tenant_id), &self.level, &self.subject_id)
    }

    /// What it limits, and how far; `None` for what this program does not know.
    pub(crate) fn limit(&self) -> Option<(Policy, Limit)> {
        let number = |amount: i64| u64::try_from(amount).unwrap_or_default();
        let limit = Limit {
            value: number(self.value),
            soft: self.soft.map(number),
            mode: if self.mode == mode_to_column(Mode::Shadow) { Mode::Shadow } else { Mode::Enforce },
        };
        Some((self.policy.parse().ok()?, limit))
    }
}

/// The subject with this id at a level of a tenant; `None` where there is no such level.
pub(crate) fn subject_of(tenant: &TenantId, level: &str, id: &str) -> Option<Subject> {
    match level {
        "tenant" => Some(Subject::Tenant(TenantId::from_stored(id))),
        "team" => Some(Subject::Team(TeamId::from_stored(id))),
        "member" => Some(Subject::Member(tenant.clone(), PersonId::from_stored(id))),
        "key" => Some(Subject::Key(KeyId::from_stored(id))),
        _ => None,
    }
}

pub(crate) const fn mode_to_column(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Shadow => "shadow",
    }
}

/// All rows of these subjects. A person may be a member of several tenants, of which the others' rows are among them.
pub(crate) async fn of_subjects(connection: &impl ConnectionTrait, subjects: &[Subject]) -> Result<Vec<Model>, DbErr> {
    let mut rows = Vec::new();
    for some in subjects.chunks(MAX_IN) {
        let mut ids: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for subject in some {
            ids.entry(subject.level()).or_default().push(subject.id());
        }
        let is_one = ids.into_iter().fold(Condition::any(), |is_one, (level, ids)| {
            is_one.add(Column::Level.eq(level).and(Column::SubjectId.is_in(ids)))
        });
        rows.extend(Entity::find().filter(is_one).all(connection).await?);
    }
    Ok(rows)
}

/// The next `limit` of a tenant's subjects below the tenant itself that have limits, as level and id, after `after`: teams,
/// members, keys, each by id.
pub(crate) async fn subjects_below(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    after: Option<(&str, &str)>,
    limit: u64,
) -> Result<Vec<(String, String)>, DbErr> {
    // By their letters the levels stand in the opposite order.
    let after = after.map(|(level, id)| {
        let further = Column::Level.eq(level).and(Column::SubjectId.gt(id));
        Condition::any().add(Column::Level.lt(level)).add(further)
    });
    let below = Entity::find().select_only().columns([Column::Level, Column::SubjectId]).distinct();
    below
        .filter(Column::TenantId.eq(tenant.as_str()))
        .filter(Column::Level.ne("tenant"))
        .filter(Condition::all().add_option(after))
        .order_by_desc(Column::Level)
        .order_by_asc(Column::SubjectId)
        .limit(limit)
        .into_tuple()
        .all(connection)
        .await
}

/// Writes a limit in the place of the one before.
pub(crate) async fn put(connection: &impl ConnectionTrait, row: Model) -> Result<(), DbErr> {
    let again = OnConflict::columns([Column::TenantId, Column::Level, Column::SubjectId, Column::Policy])
        .update_columns([Column::Value, Column::Soft, Column::Mode, Column::UpdatedAtMs])
        .to_owned();
    let insert = Entity::insert(row.into_active_model().reset_all()).on_conflict(again);
    insert.exec_without_returning(connection).await.map(|_| ())
}

/// Takes one limit of a subject away.
pub(crate) async fn delete(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    subject: &Subject,
    policy: Policy,
) -> Result<(), DbErr> {
    let delete = Entity::delete_many().filter(is_of(tenant, subject)).filter(Column::Policy.eq(policy.as_str()));
    delete.exec(connection).await.map(|_| ())
}

/// Takes all limits of a subject away.
pub(crate) async fn delete_of(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    subject: &Subject,
) -> Result<(), DbErr> {
    Entity::delete_many().filter(is_of(tenant, subject)).exec(connection).await.map(|_| ())
}

/// Gives a key the limits of another of its tenant, whose place it takes.
pub(crate) async fn copy_of_key(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    from: &str,
    to: &str,
) -> Result<(), DbErr> {
    let of_key = is_of(tenant, &Subject::Key(KeyId::from_stored(from)));
    for row in Entity::find().filter(of_key).all(connection).await? {
        put(connection, Model { subject_id: to.to_owned(), ..row }).await?;
    }
    Ok(())
}

fn is_of(tenant: &TenantId, subject: &Subject) -> Condition {
    Condition::all()
        .add(Column::TenantId.eq(tenant.as_str()))
        .add(Column::Level.eq(subject.level()))
        .add(Column::SubjectId.eq(subject.id()))
}
