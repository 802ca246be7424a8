//! From a reference to a digest, for one caller at one moment.

use sea_orm::{ColumnTrait as _, DbErr, EntityTrait as _, QueryFilter as _};
use souk_protocol::{AdapterName, AdapterRef, Digest, Principal, ResolveError, ResolvedAdapter, Selector};

use super::lookup::live_adapters_named;
use super::{VersionState, version_of};
use crate::Registry;
use crate::db::entities::{adapter, tag, upload, version};

impl Registry {
    /// What `reference` means for `principal` now.
    ///
    /// A yanked version is found by its number or digest alone; one that was taken down says so; one that is still
    /// being uploaded is not ready.
    ///
    /// # Errors
    /// [`ResolveError`]; another tenant's private adapter is `NotFound`, like one that does not exist.
    pub async fn resolve(
        &self,
        principal: &Principal,
        reference: &AdapterRef,
    ) -> Result<ResolvedAdapter, ResolveError> {
        let name = &reference.name;
        let adapter = self.find_visible_adapter(principal, name.owner(), name.name()).await.map_err(unavailable)?;
        self.choose(adapter, reference).await
    }

    /// What `reference` means now, whoever may see it. For what the operator's settings name, not for requests.
    ///
    /// # Errors
    /// [`ResolveError`], as for [`Self::resolve`].
    pub async fn resolve_for_operator(&self, reference: &AdapterRef) -> Result<ResolvedAdapter, ResolveError> {
        let name = &reference.name;
        let adapter = live_adapters_named(name.owner(), name.name()).one(&self.db).await.map_err(unavailable)?;
        self.choose(adapter, reference).await
    }

    async fn choose(
        &self,
        adapter: Option<adapter::Model>,
        reference: &AdapterRef,
    ) -> Result<ResolvedAdapter, ResolveError> {
        let not_found = || ResolveError::NotFound(reference.to_string());
        let adapter = adapter.ok_or_else(not_found)?;
        let chosen = match &reference.selector {
            Selector::Latest => self.latest(&adapter).await,
            Selector::Version(number) => self.by_number(&adapter, &number.to_string()).await,
            Selector::Digest(digest) => self.by_digest(&adapter, digest).await,
            Selector::Tag(tag) => self.by_tag(&adapter, tag).await,
        };
        let Some(version) = chosen.map_err(unavailable)? else {
            let upload = self.upload_in_flight(&adapter, &reference.selector).await.map_err(unavailable)?;
            return Err(upload.map_or_else(not_found, |upload| ResolveError::NotReady {
                reference: reference.to_string(),
                state: upload.state,
            }));
        };
        match version.state() {
            VersionState::TakenDown => Err(ResolveError::TakenDown(reference.to_string())),
            _ => resolved(&reference.name, &version).map_err(unavailable),
        }
    }

    async fn latest(&self, adapter: &adapter::Model) -> Result<Option<version::Model>, DbErr> {
        let ready = version::Entity::find()
            .filter(version::Column::AdapterId.eq(&adapter.id))
            .filter(version::Column::State.eq(VersionState::Ready.as_str()))
            .all(&self.db)
            .await?;
        Ok(ready.into_iter().filter(|row| version_of(row).pre.is_empty()).max_by_key(version_of))
    }

    async fn by_number(&self, adapter: &adapter::Model, number: &str) -> Result<Option<version::Model>, DbErr> {
        version::Entity::find()
            .filter(version::Column::AdapterId.eq(&adapter.id))
            .filter(version::Column::Version.eq(number))
            .filter(version::Column::State.ne(VersionState::Deleted.as_str()))
            .one(&self.db)
            .await
    }

    /// Several numbers may have the same content; one that serves is preferred, then the highest.
    async fn by_digest(&self, adapter: &adapter::Model, digest: &Digest) -> Result<Option<version::Model>, DbErr> {
        let rows = version::Entity::find()
            .filter(version::Column::AdapterId.eq(&adapter.id))
            .filter(version::Column::Digest.eq(digest.to_string()))
            .filter(version::Column::State.ne(VersionState::Deleted.as_str()))
            .all(&self.db)
            .await?;
        let rank = |row: &version::Model| (row.state() != VersionState::TakenDown, version_of(row));
        Ok(rows.into_iter().max_by_key(rank))
    }

    async fn by_tag(&self, adapter: &adapter::Model, tag: &str) -> Result<Option<version::Model>, DbErr> {
        let found = tag::Entity::find_by_id((adapter.id.clone(), tag.to_owned())).one(&self.db).await?;
        let Some(found) = found else { return Ok(None) };
        version::Entity::find_by_id(found.version_id)
            .filter(version::Column::State.is_in([VersionState::Ready.as_str(), VersionState::TakenDown.as_str()]))
            .one(&self.db)
            .await
    }

    /// The upload that would, once done, make the selector find something.
    async fn upload_in_flight(
        &self,
        adapter: &adapter::Model,
        selector: &Selector,
    ) -> Result<Option<upload::Model>, DbErr> {
        let uploads = upload::Entity::find().filter(upload::Column::AdapterId.eq(&adapter.id));
        match selector {
            Selector::Latest => uploads.one(&self.db).await,
            Selector::Version(number) => {
                uploads.filter(upload::Column::Version.eq(number.to_string())).one(&self.db).await
            }
            Selector::Digest(_) | Selector::Tag(_) => Ok(None),
        }
    }
}

fn resolved(
    name: &AdapterName,
    version: &version::Model,
) -> Result<ResolvedAdapter, souk_protocol::digest::DigestError> {
    Ok(ResolvedAdapter {
        name: name.clone(),
        version: version_of(version),
        digest: version.digest.parse()?,
        base: version.base_digest.parse()?,
    })
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> ResolveError {
    ResolveError::Unavailable(Box::new(error))
}
