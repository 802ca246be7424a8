//! The adapters that a caller can name as a model.

use souk_protocol::{AdapterName, Principal};

use crate::Registry;
use crate::db::adapters;
use crate::error::RegistryError;

/// An adapter with at least one version that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedModel {
    /// `owner/name`; the owner half is the tenant that published it.
    pub name: AdapterName,
    /// When the adapter was made, in seconds since the Unix epoch.
    pub created_unix_s: i64,
}

/// What a list of models has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedModels {
    /// The caller's own, those that it was granted, and public ones of others, by name.
    pub models: Vec<ListedModel>,
    /// The last public one of others, if there are more of them; see [`public_adapters_after`](crate::public_adapters_after).
    pub more_after: Option<AdapterName>,
}

impl Registry {
    /// The adapters that `principal` can call: all of its own, and the first `most_public` that it was granted and as many
    /// public ones of others; with a key that has a list of models, those that the list names. Read from an index, so that
    /// it takes no longer the more there are. It stands in the line of what the tenant reads.
    ///
    /// # Errors
    /// [`RegistryError`] from the line or the database.
    pub async fn list_models(&self, principal: &Principal, most_public: usize) -> Result<ListedModels, RegistryError> {
        let _pass = self.gates.read(principal).await?;
        let (db, tenant, most) = (self.pools.of(principal), &principal.tenant, most_public as u64);
        if let Some(allowed) = &principal.models {
            let most = most.saturating_add(self.config.settings.max_adapters_per_tenant as u64);
            let listed_ones = adapters::allowed_listed(db, tenant, allowed, most).await?;
            return Ok(ListedModels { models: listed_ones.into_iter().map(listed).collect(), more_after: None });
        }
        let own = adapters::own_listed(db, tenant).await?;
        let granted = adapters::granted_listed(db, tenant, most).await?;
        let mut public = adapters::public_listed(db, tenant, most.saturating_add(1)).await?;
        let is_cut = public.len() > most_public;
        public.truncate(most_public);
        let mut models: Vec<_> = public.into_iter().map(listed).collect();
        let more_after = models.last().filter(|_| is_cut).map(|model| model.name.clone());
        models.extend(own.into_iter().chain(granted).map(listed));
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(ListedModels { models, more_after })
    }

    /// One adapter that `principal` may see, also if its versions are all yanked, as a list would have it; `None` if there
    /// is none.
    ///
    /// # Errors
    /// [`RegistryError`] from the database.
    pub async fn listed_model(
        &self,
        principal: &Principal,
        name: &AdapterName,
    ) -> Result<Option<ListedModel>, RegistryError> {
        let seen = adapters::seen_by(&self.db, &principal.tenant, name.owner(), name.name()).await?;
        Ok(seen.map(|seen| listed((seen.row.owner, seen.row.name, seen.row.created_at_ms))))
    }
}

fn listed((owner, name, created_at_ms): adapters::Listed) -> ListedModel {
    let name = AdapterName::new(&owner, &name).expect("only checked names are stored");
    ListedModel { name, created_unix_s: created_at_ms / 1000 }
}
