//! Names beside ids, as they are now. A caller is told no name that it could not look up itself: keys and teams of the tenant,
//! adapters and hooks that the tenant may see, and members' addresses only with the scope `tenant:manage`.

use std::collections::{BTreeSet, HashMap};

use souk_protocol::{Principal, Scope, TenantId};

use crate::Registry;
use crate::db::{MAX_IN, adapters, api_keys, hook_versions, hooks, members, persons, teams, versions};
use crate::error::RegistryError;

/// Ids that names are wanted for.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) keys: BTreeSet<String>,
    pub(crate) persons: BTreeSet<String>,
    pub(crate) teams: BTreeSet<String>,
    /// As rows have them: JSON.
    pub(crate) adapters: BTreeSet<String>,
    /// Versions of hooks.
    pub(crate) hooks: BTreeSet<String>,
}

/// Names by ids.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) keys: HashMap<String, String>,
    pub(crate) emails: HashMap<String, String>,
    pub(crate) teams: HashMap<String, String>,
    /// `owner/name@version` by digest.
    pub(crate) adapters: HashMap<String, String>,
    /// `owner/name@version` by the version's id.
    pub(crate) hooks: HashMap<String, String>,
    /// Ids of base models by digest.
    pub(crate) bases: HashMap<String, String>,
}

impl Names {
    /// The name of an adapter, or its digest.
    pub(crate) fn adapter(&self, digest: &str) -> String {
        self.adapters.get(digest).cloned().unwrap_or_else(|| digest.to_owned())
    }
}

/// The digests of the adapters of a row.
pub(crate) fn digests(adapters: &str) -> Vec<String> {
    serde_json::from_str(adapters).unwrap_or_default()
}

impl Registry {
    /// Looks names up.
    pub(crate) async fn names_of(
        &self,
        principal: &Principal,
        tenant: &TenantId,
        wanted: &Wanted,
    ) -> Result<Names, RegistryError> {
        let mut names = Names::default();
        for some in pieces(&wanted.keys) {
            let rows = api_keys::by_ids(&self.db, &some).await?.into_iter();
            let own = rows.filter(|row| row.tenant_id == tenant.as_str() && !row.name.is_empty());
            names.keys.extend(own.map(|row| (row.id, row.name)));
        }
        for some in pieces(&wanted.teams) {
            let rows = teams::among(&self.db, tenant, &some).await?;
            names.teams.extend(rows.into_iter().map(|row| (row.id, row.name)));
        }
        if principal.may(Scope::TenantManage) {
            for some in pieces(&wanted.persons) {
                // Who has left is known by the id alone.
                let members = members::among(&self.db, tenant, &some).await?;
                let rows = persons::of_ids(&self.db, members).await?;
                names.emails.extend(rows.into_iter().filter_map(|row| Some((row.id, row.email?))));
            }
        }
        let wanted_digests = wanted.adapters.iter().flat_map(|adapters| digests(adapters)).collect();
        for some in pieces(&wanted_digests) {
            names.adapters.extend(self.adapter_names(tenant, &some).await?);
        }
        for some in pieces(&wanted.hooks) {
            names.hooks.extend(self.hook_names(tenant, &some).await?);
        }
        names.bases = self.bases.iter().map(|base| (base.digest.to_string(), base.id.clone())).collect();
        Ok(names)
    }

    /// Names of the tenant's own hooks, of those that were deleted, too, and of others' that it may see.
    async fn hook_names(
        &self,
        tenant: &TenantId,
        versions: &[String],
    ) -> Result<HashMap<String, String>, RegistryError> {
        let versions = hook_versions::by_ids(&self.db, versions.iter().map(String::as_str)).await?;
        let ids: BTreeSet<_> = versions.iter().map(|version| version.hook_id.as_str()).collect();
        let mut known = hooks::seen_of(&self.db, tenant, ids.iter().copied()).await?;
        let all = hooks::by_ids(&self.db, ids).await?;
        known.extend(all.into_iter().filter(|hook| hook.tenant_id == tenant.as_str()));
        let named = versions.into_iter().filter_map(|version| {
            let hook = known.iter().find(|hook| hook.id == version.hook_id)?;
            Some((version.id, format!("{}@{}", hook.full_name(), version.version)))
        });
        Ok(named.collect())
    }

    async fn adapter_names(
        &self,
        tenant: &TenantId,
        digests: &[String],
    ) -> Result<HashMap<String, String>, RegistryError> {
        let versions = versions::with_digests(&self.db, digests).await?;
        let ids: BTreeSet<_> = versions.iter().map(|version| version.adapter_id.as_str()).collect();
        let seen = adapters::known_to(&self.db, tenant, ids).await?;
        let mut names = HashMap::new();
        for version in &versions {
            // What several have is named after the tenant's own, or the one that was first.
            let Some(adapter) = seen.iter().find(|adapter| adapter.id == version.adapter_id) else { continue };
            let name = format!("{}/{}@{}", adapter.owner, adapter.name, version.version);
            if adapter.tenant_id == tenant.as_str() {
                names.insert(version.digest.clone(), name);
            } else {
                names.entry(version.digest.clone()).or_insert(name);
            }
        }
        Ok(names)
    }
}

fn pieces(ids: &BTreeSet<String>) -> Vec<Vec<String>> {
    let ids: Vec<_> = ids.iter().filter(|id| !id.is_empty()).cloned().collect();
    ids.chunks(MAX_IN).map(<[_]>::to_vec).collect()
}
