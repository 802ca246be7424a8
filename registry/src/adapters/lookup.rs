//! Finding rows for a caller. Every lookup takes the principal, so that a query cannot forget whose it is.

use sea_orm::{ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _};
use souk_protocol::Principal;

use super::{VersionState, Visibility};
use crate::Registry;
use crate::db::entities::{adapter, version};
use crate::error::RegistryError;

impl Registry {
    /// The adapter `owner/name`, if the caller may see it.
    pub(crate) async fn visible_adapter(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
    ) -> Result<adapter::Model, RegistryError> {
        let found = self.find_visible_adapter(principal, owner, name).await?;
        found.ok_or_else(|| adapter_not_found(owner, name))
    }

    /// The adapter `owner/name`, if it is the caller's own. Another tenant's is hidden when private and refused when
    /// public.
    pub(crate) async fn owned_adapter(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
    ) -> Result<adapter::Model, RegistryError> {
        let adapter = self.visible_adapter(principal, owner, name).await?;
        if adapter.tenant_id == principal.tenant.as_str() {
            return Ok(adapter);
        }
        Err(RegistryError::NotOwner { name: format!("{owner}/{name}"), owner: adapter.owner })
    }

    /// The adapter `owner/name`, whoever may see it. For the operator's own actions alone.
    pub(crate) async fn any_adapter(&self, owner: &str, name: &str) -> Result<adapter::Model, RegistryError> {
        let found = live_adapters_named(owner, name).one(&self.db).await?;
        found.ok_or_else(|| adapter_not_found(owner, name))
    }

    pub(crate) async fn find_visible_adapter(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
    ) -> Result<Option<adapter::Model>, DbErr> {
        live_adapters_named(owner, name).filter(visible_to(principal)).one(&self.db).await
    }
}

/// The condition under which a caller may see an adapter.
pub(crate) fn visible_to(principal: &Principal) -> Condition {
    Condition::any()
        .add(adapter::Column::TenantId.eq(principal.tenant.as_str()))
        .add(adapter::Column::Visibility.eq(Visibility::Public.as_str()))
}

/// The version `number` of an adapter that the caller may see, unless it was deleted.
pub(crate) async fn existing_version(
    connection: &impl ConnectionTrait,
    adapter: &adapter::Model,
    number: &str,
) -> Result<version::Model, RegistryError> {
    let found = version::Entity::find()
        .filter(version::Column::AdapterId.eq(&adapter.id))
        .filter(version::Column::Version.eq(number))
        .filter(version::Column::State.ne(VersionState::Deleted.as_str()))
        .one(connection)
        .await?;
    let name = || format!("{}/{}@{number}", adapter.owner, adapter.name);
    found.ok_or_else(|| RegistryError::NotFound { what: "version", name: name() })
}

pub(super) fn live_adapters_named(owner: &str, name: &str) -> sea_orm::Select<adapter::Entity> {
    adapter::Entity::find()
        .filter(adapter::Column::Owner.eq(owner))
        .filter(adapter::Column::Name.eq(name))
        .filter(adapter::Column::DeletedAtMs.is_null())
}

fn adapter_not_found(owner: &str, name: &str) -> RegistryError {
    RegistryError::NotFound { what: "adapter", name: format!("{owner}/{name}") }
}
