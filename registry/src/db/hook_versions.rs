//! Table `hook_versions`. One that is being validated has a lease and reserves its number; a deleted one keeps its row, and with
//! it its number. A component, and what it was compiled to, are referred to while a row here that was not deleted names its
//! digest.

use std::collections::HashSet;
use std::time::Duration;

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::ExprTrait as _;
use sea_orm::{Condition, IntoActiveModel as _, QuerySelect as _};
use semver::Version;

use super::clock::{clock_ms, clock_ms_in, now_ms};
use crate::words::VersionState;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "hook_versions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub hook_id: String,
    pub version: String,
    pub state: String,
    pub state_reason: Option<String>,
    /// SHA-256 of its component.
    pub digest: String,
    pub size_bytes: i64,
    /// The engine that it was compiled for.
    pub engine: Option<String>,
    /// SHA-256 of what it was compiled to.
    pub artifact_digest: Option<String>,
    pub artifact_bytes: i64,
    /// JSON; `None` while it is validated, and after an erasure.
    pub report: Option<String>,
    pub created_at_ms: i64,
    pub state_changed_at_ms: i64,
    /// The registry that validates it.
    pub worked_on_by: Option<String>,
    pub lease_expires_at_ms: Option<i64>,
}
no_relations!();

impl Model {
    pub(crate) fn state(&self) -> VersionState {
        VersionState::from_column(&self.state)
    }

    /// Its number.
    pub(crate) fn number(&self) -> Version {
        Version::parse(&self.version).expect("only parsed versions are stored")
    }
}

/// Reserves a number, under a lease. A unique violation says that it is taken.
pub(crate) async fn reserve(
    connection: &impl ConnectionTrait,
    row: Model,
    owner: &str,
    lease: Duration,
) -> Result<(), DbErr> {
    let id = row.id.clone();
    let row = Model { worked_on_by: Some(owner.to_owned()), lease_expires_at_ms: Some(0), ..row };
    Entity::insert(row.into_active_model().reset_all()).exec_without_returning(connection).await?;
    // The row is not visible before the transaction ends, with the right moment in it.
    renew(connection, &id, owner, lease).await.map(|_| ())
}

/// Puts the end of the lease off; answers whether the version still is its owner's to validate.
pub(crate) async fn renew(
    connection: &impl ConnectionTrait,
    id: &str,
    owner: &str,
    lease: Duration,
) -> Result<bool, DbErr> {
    let update = Entity::update_many().col_expr(Column::LeaseExpiresAtMs, clock_ms_in(connection, lease));
    Ok(update.filter(validated_by(id, owner)).exec(connection).await?.rows_affected > 0)
}

/// Makes a validated version one that serves; answers whether it still was its owner's.
pub(crate) async fn complete(connection: &impl ConnectionTrait, row: &Model, owner: &str) -> Result<bool, DbErr> {
    let update = changed_to(VersionState::Ready)
        .col_expr(Column::Report, row.report.clone().into())
        .col_expr(Column::WorkedOnBy, Option::<String>::None.into())
        .col_expr(Column::LeaseExpiresAtMs, Option::<i64>::None.into());
    Ok(update.filter(validated_by(&row.id, owner)).exec(connection).await?.rows_affected > 0)
}

/// Sets the number of a version free that is not validated any more; answers whether it still was its owner's.
pub(crate) async fn give_up(connection: &impl ConnectionTrait, id: &str, owner: &str) -> Result<bool, DbErr> {
    Ok(Entity::delete_many().filter(validated_by(id, owner)).exec(connection).await?.rows_affected > 0)
}

/// Versions whose lease has lapsed.
pub(crate) async fn lapsed(connection: &impl ConnectionTrait) -> Result<Vec<Model>, DbErr> {
    let validating = Entity::find().filter(Column::State.eq(VersionState::Validating.as_str()));
    validating.filter(Expr::col(Column::LeaseExpiresAtMs).lt(clock_ms(connection))).all(connection).await
}

/// Removes the row of a version whose lease was not renewed since it was seen to end at `expires_at_ms` and has lapsed; answers
/// whether it did.
pub(crate) async fn delete_lapsed(
    connection: &impl ConnectionTrait,
    id: &str,
    expires_at_ms: Option<i64>,
) -> Result<bool, DbErr> {
    let lapsed = Entity::delete_many()
        .filter(Column::Id.eq(id))
        .filter(Column::State.eq(VersionState::Validating.as_str()))
        .filter(Column::LeaseExpiresAtMs.eq(expires_at_ms))
        .filter(Expr::col(Column::LeaseExpiresAtMs).lt(clock_ms(connection)));
    Ok(lapsed.exec(connection).await?.rows_affected > 0)
}

/// The ids of versions that are being validated.
pub(crate) async fn ids_in_work(connection: &impl ConnectionTrait) -> Result<Vec<String>, DbErr> {
    let validating = Entity::find().filter(Column::State.eq(VersionState::Validating.as_str()));
    validating.select_only().column(Column::Id).into_tuple().all(connection).await
}

/// The versions of a hook that were validated and not deleted, in no order: SQL cannot order by the rules of semantic versions.
pub(crate) async fn of_hook(connection: &impl ConnectionTrait, hook_id: &str) -> Result<Vec<Model>, DbErr> {
    Entity::find().filter(Column::HookId.eq(hook_id)).filter(is_published()).all(connection).await
}

/// The versions of a hook that are being validated.
pub(crate) async fn validating_of(connection: &impl ConnectionTrait, hook_id: &str) -> Result<Vec<Model>, DbErr> {
    let validating = Entity::find().filter(Column::State.eq(VersionState::Validating.as_str()));
    validating.filter(Column::HookId.eq(hook_id)).all(connection).await
}

/// All versions that a hook ever had.
pub(crate) async fn ever_of(connection: &impl ConnectionTrait, hook_id: &str) -> Result<Vec<Model>, DbErr> {
    Entity::find().filter(Column::HookId.eq(hook_id)).all(connection).await
}

/// How many numbers of a hook are taken.
pub(crate) async fn count_of(connection: &impl ConnectionTrait, hook_id: &str) -> Result<u64, DbErr> {
    let of_hook = Entity::find().filter(Column::HookId.eq(hook_id));
    of_hook.filter(Column::State.ne(VersionState::Deleted.as_str())).count(connection).await
}

/// The version with this number, in whatever state.
pub(crate) async fn numbered_ever(
    connection: &impl ConnectionTrait,
    hook_id: &str,
    number: &str,
) -> Result<Option<Model>, DbErr> {
    let of_hook = Entity::find().filter(Column::HookId.eq(hook_id));
    of_hook.filter(Column::Version.eq(number)).one(connection).await
}

/// The version with this number, if it was validated and not deleted.
pub(crate) async fn numbered(
    connection: &impl ConnectionTrait,
    hook_id: &str,
    number: &str,
) -> Result<Option<Model>, DbErr> {
    let of_hook = Entity::find().filter(Column::HookId.eq(hook_id)).filter(is_published());
    of_hook.filter(Column::Version.eq(number)).one(connection).await
}

pub(crate) async fn by_ids(
    connection: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = &str>,
) -> Result<Vec<Model>, DbErr> {
    Entity::find().filter(Column::Id.is_in(ids)).all(connection).await
}

/// The ready versions of these hooks.
pub(crate) async fn ready_of(
    connection: &impl ConnectionTrait,
    hook_ids: impl IntoIterator<Item = &str>,
) -> Result<Vec<Model>, DbErr> {
    let ready = Entity::find().filter(Column::State.eq(VersionState::Ready.as_str()));
    ready.filter(Column::HookId.is_in(hook_ids)).all(connection).await
}

/// The versions of any tenant that may run and have this component.
pub(crate) async fn running_with(connection: &impl ConnectionTrait, digest: &str) -> Result<Vec<Model>, DbErr> {
    let running = [VersionState::Ready.as_str(), VersionState::Yanked.as_str()];
    Entity::find().filter(Column::Digest.eq(digest)).filter(Column::State.is_in(running)).all(connection).await
}

/// Puts a version in another state.
pub(crate) async fn set_state(
    connection: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = &str>,
    state: VersionState,
    reason: Option<&str>,
) -> Result<(), DbErr> {
    let update = changed_to(state).col_expr(Column::StateReason, reason.into());
    update.filter(Column::Id.is_in(ids)).exec(connection).await.map(|_| ())
}

/// Puts all versions of a hook in the state `deleted`, but for those that were taken down, and gives up what is being validated.
pub(crate) async fn delete_of_hook(connection: &impl ConnectionTrait, hook_id: &str) -> Result<(), DbErr> {
    let of_hook = Entity::delete_many().filter(Column::HookId.eq(hook_id));
    of_hook.filter(Column::State.eq(VersionState::Validating.as_str())).exec(connection).await?;
    let settled = [VersionState::Deleted.as_str(), VersionState::TakenDown.as_str()];
    let update = changed_to(VersionState::Deleted).filter(Column::HookId.eq(hook_id));
    update.filter(Column::State.is_not_in(settled)).exec(connection).await.map(|_| ())
}

/// Notes what a version that is validated was compiled to, before that is put in place; answers whether it still was its owner's.
pub(crate) async fn compiled(
    connection: &impl ConnectionTrait,
    id: &str,
    owner: &str,
    (engine, digest, size_bytes): (&str, &str, i64),
) -> Result<bool, DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::Engine, engine.into())
        .col_expr(Column::ArtifactDigest, digest.into())
        .col_expr(Column::ArtifactBytes, size_bytes.into());
    Ok(update.filter(validated_by(id, owner)).exec(connection).await?.rows_affected > 0)
}

/// A version that may run, with this component and something that was compiled for this engine.
pub(crate) async fn compiled_for(
    connection: &impl ConnectionTrait,
    digest: &str,
    engine: &str,
) -> Result<Option<Model>, DbErr> {
    let running = [VersionState::Ready.as_str(), VersionState::Yanked.as_str()];
    let of_component = Entity::find().filter(Column::Digest.eq(digest)).filter(Column::State.is_in(running));
    of_component.filter(Column::Engine.eq(engine)).filter(Column::ArtifactDigest.is_not_null()).one(connection).await
}

/// Those of `digests` that some version refers to.
pub(crate) async fn referred_to(
    connection: &impl ConnectionTrait,
    digests: &[String],
) -> Result<HashSet<String>, DbErr> {
    let mut referred_to = HashSet::new();
    for column in [Column::Digest, Column::ArtifactDigest] {
        let query = Entity::find().select_only().column(column).distinct().filter(has_bytes());
        let found: Vec<String> = query.filter(column.is_in(digests)).into_tuple().all(connection).await?;
        referred_to.extend(found);
    }
    Ok(referred_to)
}

/// The digests that begin with the byte `shard` of components that have to be there.
pub(crate) async fn digests_in(connection: &impl ConnectionTrait, shard: u8) -> Result<Vec<String>, DbErr> {
    let prefix = format!("sha256:{shard:02x}");
    let query = Entity::find().select_only().column(Column::Digest).distinct().filter(is_published());
    // Behind all hex digits comes `g`.
    let within = query.filter(Column::Digest.gte(prefix.clone())).filter(Column::Digest.lt(format!("{prefix}g")));
    within.filter(has_bytes()).into_tuple().all(connection).await
}

/// The versions whose components begin with the byte `shard` and have to be there.
pub(crate) async fn all_in(connection: &impl ConnectionTrait, shard: u8) -> Result<Vec<Model>, DbErr> {
    let prefix = format!("sha256:{shard:02x}");
    let query = Entity::find().filter(is_published()).filter(has_bytes());
    // Behind all hex digits comes `g`.
    let within = query.filter(Column::Digest.gte(prefix.clone())).filter(Column::Digest.lt(format!("{prefix}g")));
    within.all(connection).await
}

/// The same of what versions were compiled to.
pub(crate) async fn all_compiled_in(connection: &impl ConnectionTrait, shard: u8) -> Result<Vec<Model>, DbErr> {
    let prefix = format!("sha256:{shard:02x}");
    let query = Entity::find().filter(is_published()).filter(has_bytes());
    let after = query.filter(Column::ArtifactDigest.gte(prefix.clone()));
    after.filter(Column::ArtifactDigest.lt(format!("{prefix}g"))).all(connection).await
}

fn validated_by(id: &str, owner: &str) -> Condition {
    let validating = Column::State.eq(VersionState::Validating.as_str());
    Condition::all().add(Column::Id.eq(id)).add(validating).add(Column::WorkedOnBy.eq(owner))
}

fn is_published() -> Condition {
    let others = [VersionState::Validating.as_str(), VersionState::Deleted.as_str()];
    Condition::all().add(Column::State.is_not_in(others))
}

/// What was taken down and then deleted has the state `taken_down` and a size of 0.
fn has_bytes() -> Condition {
    Condition::all().add(Column::State.ne(VersionState::Deleted.as_str())).add(Column::SizeBytes.gt(0))
}

/// Notes that the bytes of versions are gone.
pub(crate) async fn drop_bytes(
    connection: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = &str>,
) -> Result<(), DbErr> {
    let update = Entity::update_many().col_expr(Column::SizeBytes, 0_i64.into());
    update.filter(Column::Id.is_in(ids)).exec(connection).await.map(|_| ())
}

fn changed_to(state: VersionState) -> sea_orm::UpdateMany<Entity> {
    Entity::update_many()
        .col_expr(Column::State, state.as_str().into())
        .col_expr(Column::StateChangedAtMs, now_ms().into())
}
