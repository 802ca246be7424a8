//! What an installation begins with: hooks of the operator, public, each version once.
//!
//! A hook and a number are given once, so their rows are the claim: of several registries that start at once one makes them, and
//! what an operator deleted does not come back. A hook of the same name that somebody made is left alone.

use bytes::Bytes;
use sea_orm::DbErr;
use semver::Version;
use serde_json::json;
use souk_protocol::HookName;
use souk_protocol::reference::ReferenceError;
use uuid::Uuid;

use super::intake::HookTerms;
use super::publish::HookRelease;
use super::rows::note;
use crate::Registry;
use crate::admin_key::ADMIN_TENANT;
use crate::audit::Actor;
use crate::db::hooks::INSTALLATION;
use crate::db::{HookRow, begin_write_of, hook_versions, hooks, is_unique_violation, now_ms, tenants};
use crate::error::RegistryError;
use crate::idempotency::Once;
use crate::words::Visibility;

/// A hook that an installation begins with.
#[derive(Clone, Debug)]
pub struct OperatorsHook {
    /// The half of its name after the slash; the other is the operator's tenant.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its version.
    pub version: Version,
    /// Its component.
    pub component: Bytes,
}

/// Why a hook was not put there.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Its name cannot be one.
    #[error(transparent)]
    Name(#[from] ReferenceError),
    /// Its component is rejected, or cannot be kept.
    #[error("the hook {name} was not installed: {error}")]
    Publish {
        /// Which.
        name: String,
        /// Why.
        #[source]
        error: RegistryError,
    },
    /// The database failed.
    #[error("the registry's database cannot be used")]
    Database(#[from] DbErr),
}

impl Registry {
    /// Makes those of `hooks` and of their versions that were never there, as public ones of the operator's tenant; answers how
    /// many versions it made. Does nothing before there is that tenant.
    ///
    /// # Errors
    /// [`InstallError`] for the first that cannot be made.
    pub async fn install_hooks(&self, hooks: &[OperatorsHook]) -> Result<usize, InstallError> {
        let Some(tenant) = tenants::named(&self.db, ADMIN_TENANT).await? else { return Ok(0) };
        let mut num_made = 0;
        for hook in hooks {
            let name = HookName::new(&tenant.name, &hook.name)?;
            let failed = |error: RegistryError| InstallError::Publish { name: name.to_string(), error };
            let Some(row) = self.installed_hook(&tenant.id, &name, hook).await.map_err(failed)? else { continue };
            if hook_versions::numbered_ever(&self.db, &row.id, &hook.version.to_string()).await?.is_some() {
                continue;
            }
            let (number, component) = (&hook.version, hook.component.clone());
            let (terms, actor) = (HookTerms::default(), Actor::System);
            let release = HookRelease { registry: self, hook: &row, number, component, terms, actor };
            match release.publish(&Once::default(), |_| ()).await {
                Ok(_) => num_made += 1,
                // Another registry makes it, or did.
                Err(
                    RegistryError::UploadInProgress(_)
                    | RegistryError::AlreadyExists { .. }
                    | RegistryError::Retired { .. }
                    | RegistryError::ContentTakenDown { .. },
                ) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(num_made)
    }

    /// The row of a hook that an installation begins with; `None` if it was deleted, or somebody made one of that name.
    async fn installed_hook(
        &self,
        tenant_id: &str,
        name: &HookName,
        hook: &OperatorsHook,
    ) -> Result<Option<HookRow>, RegistryError> {
        let is_ours = |row: &HookRow| row.made_by == INSTALLATION && row.deleted_at_ms.is_none();
        if let Some(row) = hooks::ever(&self.db, name.owner(), name.name()).await? {
            return Ok(Some(row).filter(is_ours));
        }
        let now_ms = now_ms();
        let row = HookRow {
            id: format!("hok_{}", Uuid::now_v7().simple()),
            tenant_id: tenant_id.to_owned(),
            owner: name.owner().to_owned(),
            name: name.name().to_owned(),
            visibility: Visibility::Public.as_str().to_owned(),
            description: hook.description.clone(),
            made_by: INSTALLATION.to_owned(),
            created_at_ms: now_ms,
            updated_at_ms: now_ms,
            deleted_at_ms: None,
        };
        let transaction = begin_write_of(&self.db, &row.tenant()).await?;
        match hooks::insert(&transaction, row.clone()).await {
            Ok(_) => {}
            Err(error) if is_unique_violation(&error) => {
                transaction.rollback().await?;
                return Ok(hooks::ever(&self.db, name.owner(), name.name()).await?.filter(is_ours));
            }
            Err(error) => return Err(error.into()),
        }
        note(&transaction, Actor::System, &row, "hook.created", json!({ "visibility": row.visibility })).await?;
        transaction.commit().await?;
        Ok(Some(row))
    }
}
