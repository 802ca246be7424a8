//! Table `versions`. A deleted version keeps its row, and with it its number.

use sea_orm::entity::prelude::*;
use sea_orm::{Condition, IntoActiveModel as _, QueryOrder as _, QuerySelect as _};
use semver::Version;
use souk_protocol::Digest;

use super::clock::now_ms;
use crate::words::VersionState;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "versions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub adapter_id: String,
    pub version: String,
    pub state: String,
    pub digest: String,
    pub base_digest: String,
    pub rank: i32,
    /// What was found when it was published, as JSON; null for versions that are older than reports.
    pub report: Option<String>,
    pub state_reason: Option<String>,
    pub created_at_ms: i64,
    pub state_changed_at_ms: i64,
    pub weights_digest: Option<String>,
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

/// All versions of an adapter that were not deleted, in no order: SQL cannot order by the rules of semantic versions.
pub(crate) async fn of_adapter(connection: &impl ConnectionTrait, adapter_id: &str) -> Result<Vec<Model>, DbErr> {
    existing(adapter_id).all(connection).await
}

/// The version with this number, unless it was deleted.
pub(crate) async fn numbered(
    connection: &impl ConnectionTrait,
    adapter_id: &str,
    number: &str,
) -> Result<Option<Model>, DbErr> {
    existing(adapter_id).filter(Column::Version.eq(number)).one(connection).await
}

/// The version with this number, also if it was deleted.
pub(crate) async fn numbered_ever(
    connection: &impl ConnectionTrait,
    adapter_id: &str,
    number: &str,
) -> Result<Option<Model>, DbErr> {
    let of_adapter = Entity::find().filter(Column::AdapterId.eq(adapter_id));
    of_adapter.filter(Column::Version.eq(number)).one(connection).await
}

/// The versions with this content that were not deleted.
pub(crate) async fn with_digest(
    connection: &impl ConnectionTrait,
    adapter_id: &str,
    digest: &Digest,
) -> Result<Vec<Model>, DbErr> {
    existing(adapter_id).filter(Column::Digest.eq(digest.to_string())).all(connection).await
}

/// The versions with these contents, of whatever adapters, deleted ones included.
pub(crate) async fn with_digests(connection: &impl ConnectionTrait, digests: &[String]) -> Result<Vec<Model>, DbErr> {
    Entity::find().filter(Column::Digest.is_in(digests)).order_by_asc(Column::Id).all(connection).await
}

/// All versions that an adapter ever had, or the one with this number.
pub(crate) async fn ever_of(
    connection: &impl ConnectionTrait,
    adapter_id: &str,
    number: Option<&str>,
) -> Result<Vec<Model>, DbErr> {
    let with_number = Condition::all().add_option(number.map(|number| Column::Version.eq(number)));
    Entity::find().filter(Column::AdapterId.eq(adapter_id)).filter(with_number).all(connection).await
}

/// The version that a tag's row names, if a tag may choose it.
pub(crate) async fn tagged(connection: &impl ConnectionTrait, id: &str) -> Result<Option<Model>, DbErr> {
    let states = [VersionState::Ready.as_str(), VersionState::TakenDown.as_str()];
    Entity::find_by_id(id).filter(Column::State.is_in(states)).one(connection).await
}

pub(crate) async fn by_ids(
    connection: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = &str>,
) -> Result<Vec<Model>, DbErr> {
    Entity::find().filter(Column::Id.is_in(ids)).all(connection).await
}

/// The ready versions of these adapters.
pub(crate) async fn ready_of(
    connection: &impl ConnectionTrait,
    adapter_ids: impl IntoIterator<Item = &str>,
) -> Result<Vec<Model>, DbErr> {
    ready().filter(Column::AdapterId.is_in(adapter_ids)).all(connection).await
}

/// How many versions an adapter has.
pub(crate) async fn count_of(connection: &impl ConnectionTrait, adapter_id: &str) -> Result<u64, DbErr> {
    existing(adapter_id).count(connection).await
}

/// The versions that were taken down last, the newest first.
pub(crate) async fn last_taken_down(connection: &impl ConnectionTrait, most: u64) -> Result<Vec<Model>, DbErr> {
    let taken_down = Entity::find().filter(Column::State.eq(VersionState::TakenDown.as_str()));
    taken_down.order_by_desc(Column::StateChangedAtMs).order_by_desc(Column::Id).limit(most).all(connection).await
}

pub(crate) async fn any_exist(connection: &impl ConnectionTrait) -> Result<bool, DbErr> {
    Ok(Entity::find().one(connection).await?.is_some())
}

pub(crate) async fn insert(connection: &impl ConnectionTrait, row: Model) -> Result<Model, DbErr> {
    row.into_active_model().reset_all().insert(connection).await
}

/// Puts a version in another state.
pub(crate) async fn set_state(
    connection: &impl ConnectionTrait,
    id: &str,
    state: VersionState,
    reason: Option<&str>,
) -> Result<(), DbErr> {
    changed_to(state).col_expr(Column::StateReason, reason.into()).filter(Column::Id.eq(id)).exec(connection).await?;
    Ok(())
}

/// The versions of any tenant that serve somebody and have one of these digests, of their manifest or of their weights.
pub(crate) async fn serving_with_content(
    connection: &impl ConnectionTrait,
    digests: &[String],
) -> Result<Vec<Model>, DbErr> {
    let alike = Condition::any().add(Column::Digest.is_in(digests)).add(Column::WeightsDigest.is_in(digests));
    let serving = [VersionState::Ready.as_str(), VersionState::Yanked.as_str()];
    Entity::find().filter(alike).filter(Column::State.is_in(serving)).all(connection).await
}

/// Takes versions down.
pub(crate) async fn take_down(
    connection: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = &str>,
    reason: &str,
) -> Result<(), DbErr> {
    let update = changed_to(VersionState::TakenDown).col_expr(Column::StateReason, reason.into());
    update.filter(Column::Id.is_in(ids)).exec(connection).await.map(|_| ())
}

/// Puts all versions of an adapter in the state `deleted`, but for those that were taken down.
pub(crate) async fn delete_of_adapter(connection: &impl ConnectionTrait, adapter_id: &str) -> Result<(), DbErr> {
    let update = changed_to(VersionState::Deleted).filter(Column::AdapterId.eq(adapter_id));
    let settled = [VersionState::Deleted.as_str(), VersionState::TakenDown.as_str()];
    update.filter(Column::State.is_not_in(settled)).exec(connection).await?;
    Ok(())
}

fn existing(adapter_id: &str) -> Select<Entity> {
    let of_adapter = Entity::find().filter(Column::AdapterId.eq(adapter_id));
    of_adapter.filter(Column::State.ne(VersionState::Deleted.as_str()))
}

fn ready() -> Select<Entity> {
    Entity::find().filter(Column::State.eq(VersionState::Ready.as_str()))
}

fn changed_to(state: VersionState) -> sea_orm::UpdateMany<Entity> {
    Entity::update_many()
        .col_expr(Column::State, state.as_str().into())
        .col_expr(Column::StateChangedAtMs, now_ms().into())
}
