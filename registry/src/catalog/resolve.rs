//! From a reference to a digest, for one caller at one moment.

use sea_orm::DbErr;
use souk_protocol::{AdapterName, AdapterRef, Digest, Principal, ResolveError, ResolvedAdapter, Selector};

use crate::Registry;
use crate::db::{AdapterRow, UploadRow, VersionRow, adapters, tags, uploads, versions};
use crate::words::VersionState;

impl Registry {
    /// What `reference` means for `principal` now.
    ///
    /// A yanked version is found by its number or digest alone; one that was taken down says so; one that is still
    /// being uploaded is not ready.
    ///
    /// # Errors
    /// [`ResolveError`]; another tenant's adapter that the caller's may not see is `NotFound`, like one that does not exist.
    pub async fn resolve(
        &self,
        principal: &Principal,
        reference: &AdapterRef,
    ) -> Result<ResolvedAdapter, ResolveError> {
        let name = &reference.name;
        let seen = adapters::seen_by(&self.db, &principal.tenant, name.owner(), name.name()).await;
        match seen.map_err(unavailable)? {
            Some(seen) if !seen.is_callable() => Err(ResolveError::NotGranted(reference.to_string())),
            seen => self.choose(seen.map(|seen| seen.row), reference).await,
        }
    }

    /// What `reference` means now, whoever may see it. For what the operator's settings name, not for requests.
    ///
    /// # Errors
    /// [`ResolveError`], as for [`Self::resolve`].
    pub async fn resolve_for_operator(&self, reference: &AdapterRef) -> Result<ResolvedAdapter, ResolveError> {
        let name = &reference.name;
        let adapter = adapters::live(&self.db, name.owner(), name.name()).await.map_err(unavailable)?;
        self.choose(adapter, reference).await
    }

    async fn choose(
        &self,
        adapter: Option<AdapterRow>,
        reference: &AdapterRef,
    ) -> Result<ResolvedAdapter, ResolveError> {
        let not_found = || ResolveError::NotFound(reference.to_string());
        let adapter = adapter.ok_or_else(not_found)?;
        let chosen = match &reference.selector {
            Selector::Latest => self.latest(&adapter).await,
            Selector::Version(number) => versions::numbered(&self.db, &adapter.id, &number.to_string()).await,
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
            _ => {
                let hooks = self.hooks_of_version(&adapter.tenant(), &version.id).await.map_err(unavailable)?;
                let resolved = resolved(&reference.name, &version).map_err(unavailable)?;
                Ok(ResolvedAdapter { hooks, ..resolved })
            }
        }
    }

    async fn latest(&self, adapter: &AdapterRow) -> Result<Option<VersionRow>, DbErr> {
        let ready = versions::ready_of(&self.db, [adapter.id.as_str()]).await?;
        Ok(ready.into_iter().filter(|row| row.number().pre.is_empty()).max_by_key(VersionRow::number))
    }

    /// Several numbers may have the same content; one that serves is preferred, then the highest.
    async fn by_digest(&self, adapter: &AdapterRow, digest: &Digest) -> Result<Option<VersionRow>, DbErr> {
        let rows = versions::with_digest(&self.db, &adapter.id, digest).await?;
        let rank = |row: &VersionRow| (row.state() != VersionState::TakenDown, row.number());
        Ok(rows.into_iter().max_by_key(rank))
    }

    async fn by_tag(&self, adapter: &AdapterRow, tag: &str) -> Result<Option<VersionRow>, DbErr> {
        let Some(found) = tags::get(&self.db, &adapter.id, tag).await? else { return Ok(None) };
        versions::tagged(&self.db, &found.version_id).await
    }

    /// The upload that would, once done, make the selector find something.
    async fn upload_in_flight(&self, adapter: &AdapterRow, selector: &Selector) -> Result<Option<UploadRow>, DbErr> {
        match selector {
            Selector::Latest => uploads::of_adapter(&self.db, &adapter.id, None).await,
            Selector::Version(number) => uploads::of_adapter(&self.db, &adapter.id, Some(&number.to_string())).await,
            Selector::Digest(_) | Selector::Tag(_) => Ok(None),
        }
    }
}

fn resolved(name: &AdapterName, version: &VersionRow) -> Result<ResolvedAdapter, souk_protocol::digest::DigestError> {
    Ok(ResolvedAdapter {
        name: name.clone(),
        version: version.number(),
        digest: version.digest.parse()?,
        base: version.base_digest.parse()?,
        rank: u32::try_from(version.rank).ok().filter(|rank| *rank > 0),
        hooks: None,
        grant: None,
    })
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> ResolveError {
    ResolveError::Unavailable(Box::new(error))
}
