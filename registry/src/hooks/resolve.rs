//! What acts on whose requests now, for gateways.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use sea_orm::DbErr;
use souk_protocol::hooks::{Attached, CallerHooks, HookRoute};
use souk_protocol::{Digest, Principal, TenantId};
use tokio::io::AsyncReadExt as _;

use super::steps::{Known, StoredStep, from_column, variables};
use crate::Registry;
use crate::db::{HookVersionRow, hook_limits, hook_settings, hook_versions, pipelines};
use crate::error::RegistryError;
use crate::objects::digest_of;

impl Registry {
    /// What acts on a caller's requests, of its own tenant's, and what hooks may take in them; `None` where there is nothing to
    /// say of that.
    pub(crate) async fn hooks_of_caller(&self, principal: &Principal) -> Result<Option<Arc<CallerHooks>>, DbErr> {
        let tenant = &principal.tenant;
        let key = format!("key/{}", principal.key);
        let route = |route: HookRoute| format!("route/{}", route.as_str());
        let targets = ["tenant".to_owned(), key.clone()].into_iter().chain(HookRoute::ALL.map(route));
        let rows = pipelines::current(&self.db, tenant, targets).await?;
        let mut stored = BTreeMap::<String, Vec<StoredStep>>::new();
        for row in rows {
            stored.insert(row.target, from_column(&row.steps)?);
        }
        stored.retain(|_, steps| !steps.is_empty());
        let settings = hook_settings::of(&self.db, tenant).await?;
        let log_readers: BTreeSet<TenantId> =
            settings.as_ref().and_then(|row| serde_json::from_str(&row.log_readers).ok()).unwrap_or_default();
        let limits = hook_limits::of(&self.db, tenant).await?.limits();
        if stored.is_empty() && log_readers.is_empty() && limits.is_empty() {
            return Ok(None);
        }
        let known = Known::of(&self.db, tenant, stored.values().flatten()).await?;
        let of = |target: &str| stored.get(target).map(|steps| known.steps(steps)).unwrap_or_default();
        let of_routes = HookRoute::ALL.into_iter().map(|one| (one.as_str().to_owned(), of(&route(one))));
        Ok(Some(Arc::new(CallerHooks {
            variables: Arc::new(settings.map(|row| variables(&row.variables)).unwrap_or_default()),
            of_tenant: of("tenant"),
            of_key: of(&key),
            of_routes: of_routes.filter(|(_, steps)| !steps.is_empty()).collect(),
            limits,
            log_readers,
        })))
    }

    /// What the publisher of an adapter attached to one of its versions; `None`: nothing.
    pub(crate) async fn hooks_of_version(
        &self,
        publisher: &TenantId,
        version_id: &str,
    ) -> Result<Option<Arc<Attached>>, DbErr> {
        let row = pipelines::current(&self.db, publisher, [format!("version/{version_id}")]).await?.pop();
        let stored = row.map(|row| from_column(&row.steps)).transpose()?.unwrap_or_default();
        if stored.is_empty() {
            return Ok(None);
        }
        let known = Known::of(&self.db, publisher, stored.iter()).await?;
        let settings = hook_settings::of(&self.db, publisher).await?;
        Ok(Some(Arc::new(Attached {
            tenant: publisher.clone(),
            variables: Arc::new(settings.map(|row| variables(&row.variables)).unwrap_or_default()),
            limits: hook_limits::of(&self.db, publisher).await?.limits(),
            steps: known.steps(&stored),
        })))
    }

    /// The bytes of a component that some version of a hook has and that was not taken down; `None` if there is none.
    ///
    /// # Errors
    /// [`RegistryError`] of the database and the store; bytes that are not those of the digest are never answered.
    pub async fn hook_component(&self, digest: &Digest) -> Result<Option<Bytes>, RegistryError> {
        if hook_versions::running_with(&self.db, &digest.to_string()).await?.is_empty() {
            return Ok(None);
        }
        self.whole_blob("component.wasm", &digest.to_string()).await
    }

    /// What such a component was compiled to for this engine, sealed; `None` where it has to be compiled.
    ///
    /// # Errors
    /// As [`Self::hook_component`].
    pub async fn hook_artifact(&self, digest: &Digest, engine: &str) -> Result<Option<Bytes>, RegistryError> {
        let found = hook_versions::compiled_for(&self.db, &digest.to_string(), engine).await?;
        match found.and_then(|row: HookVersionRow| row.artifact_digest) {
            Some(blob) => self.whole_blob("artifact", &blob).await,
            None => Ok(None),
        }
    }

    /// All bytes of a blob; `None` if it is gone.
    async fn whole_blob(&self, file: &str, digest: &str) -> Result<Option<Bytes>, RegistryError> {
        let expected = digest.parse::<Digest>().map_err(std::io::Error::other)?;
        let mut blob = match self.objects.open(&expected).await {
            Ok(blob) => blob,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = Vec::new();
        blob.read_to_end(&mut bytes).await?;
        let bytes = Bytes::from(bytes);
        if digest_of(Box::pin(std::io::Cursor::new(bytes.clone()))).await? != expected {
            return Err(RegistryError::ObjectCorrupted { file: file.to_owned(), digest: digest.to_owned() });
        }
        Ok(Some(bytes))
    }
}
