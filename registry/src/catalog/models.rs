//! The adapters that a caller can name as a model.

use std::collections::BTreeMap;

use sea_orm::DbErr;
use semver::Version;
use souk_protocol::{AdapterName, Principal};

use crate::Registry;
use crate::db::{adapters, versions};

/// An adapter with at least one version that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedModel {
    /// `owner/name`; the owner half is the tenant that published it.
    pub name: AdapterName,
    /// Its ready versions, highest first.
    pub versions: Vec<Version>,
    /// When the adapter was made, in seconds since the Unix epoch.
    pub created_unix_s: i64,
}

impl Registry {
    /// All adapters that `principal` can call, by name.
    ///
    /// # Errors
    /// What the database says.
    pub async fn list_models(&self, principal: &Principal) -> Result<Vec<ListedModel>, DbErr> {
        let tenant_id = principal.tenant.as_str();
        let adapters = adapters::all_visible(&self.db, tenant_id).await?;
        let ready = versions::ready_visible(&self.db, tenant_id).await?;
        let mut versions_of = BTreeMap::<String, Vec<Version>>::new();
        for row in ready {
            versions_of.entry(row.adapter_id.clone()).or_default().push(row.number());
        }
        let mut models = Vec::new();
        for adapter in adapters {
            let Some(mut versions) = versions_of.remove(&adapter.id) else { continue };
            versions.sort_by(|a, b| b.cmp(a));
            let name = AdapterName::new(&adapter.owner, &adapter.name).expect("only checked names are stored");
            models.push(ListedModel { name, versions, created_unix_s: adapter.created_at_ms / 1000 });
        }
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(models)
    }
}
