//! The adapters that a caller can name as a model.

use std::collections::BTreeMap;

use sea_orm::{ColumnTrait as _, DbErr, EntityTrait as _, QueryFilter as _, QuerySelect as _};
use semver::Version;
use souk_protocol::{AdapterName, Principal};

use super::lookup::visible_to;
use super::{VersionState, version_of};
use crate::Registry;
use crate::db::entities::{adapter, version};

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
        let adapters = adapter::Entity::find()
            .filter(visible_to(principal))
            .filter(adapter::Column::DeletedAtMs.is_null())
            .all(&self.db)
            .await?;
        // Versions of hidden adapters are left out by the subquery rather than by a list of ids, which SQL bounds.
        let visible_ids = sea_orm::QuerySelect::query(
            &mut adapter::Entity::find()
                .select_only()
                .column(adapter::Column::Id)
                .filter(visible_to(principal))
                .filter(adapter::Column::DeletedAtMs.is_null()),
        )
        .to_owned();
        let ready = version::Entity::find()
            .filter(version::Column::State.eq(VersionState::Ready.as_str()))
            .filter(version::Column::AdapterId.in_subquery(visible_ids))
            .all(&self.db)
            .await?;
        let mut versions_of = BTreeMap::<String, Vec<Version>>::new();
        for row in ready {
            versions_of.entry(row.adapter_id.clone()).or_default().push(version_of(&row));
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
