//! Making, listing, changing and deleting hooks.

use std::collections::HashMap;

use semver::Version;
use serde::Serialize;
use serde_json::json;
use souk_protocol::Principal;
use souk_protocol::reference::check_name_part;
use uuid::Uuid;

use super::lookup::{hook_not_found, still_there};
use super::rows::{delete_rows, note};
use crate::audit::Actor;
use crate::db::hooks::Filter;
use crate::db::{HookRow, begin_write_of, hook_versions, hooks, is_unique_violation, now_ms, tenants};
use crate::error::{Finding, RegistryError};
use crate::idempotency::Once;
use crate::rights::{Action, require};
use crate::slice::{Slice, wrong_cursor};
use crate::words::Visibility;
use crate::{Registry, blobs};

/// Longest description.
const MAX_DESCRIPTION_CHARS: usize = 4000;

/// A hook as a caller asks for it, unchecked.
pub(crate) struct NewHook {
    pub(crate) name: String,
    /// The tenant that should own it: the caller's own, which is also meant by `None`.
    pub(crate) owner: Option<String>,
    pub(crate) visibility: Visibility,
    pub(crate) description: String,
}

/// A hook and the version that its name means.
#[derive(Clone)]
pub(crate) struct HookDetails {
    pub(crate) row: HookRow,
    /// The highest ready version that is not a pre-release.
    pub(crate) latest: Option<Version>,
}

impl Registry {
    /// Makes a hook without versions. `shape` makes the answer that is kept for an `Idempotency-Key`.
    pub(crate) async fn create_hook<A: Serialize>(
        &self,
        principal: &Principal,
        new: NewHook,
        once: &Once,
        shape: impl FnOnce(HookDetails) -> A,
    ) -> Result<HookDetails, RegistryError> {
        require(principal, Action::CreateHook)?;
        let tenant = &principal.tenant_name;
        let name = check_name_part("name", &new.name).err().map(|error| Finding::field("name", error.to_string()));
        let owner = new
            .owner
            .filter(|owner| owner != tenant)
            .map(|owner| Finding::field("owner", format!("your key's tenant is `{tenant}`, given `{owner}`")));
        let findings = [name, owner, check_visibility(new.visibility), check_description(&new.description)];
        RegistryError::unless_valid(findings.into_iter().flatten().collect())?;
        let now_ms = now_ms();
        let row = HookRow {
            id: format!("hok_{}", Uuid::now_v7().simple()),
            tenant_id: principal.tenant.to_string(),
            owner: tenant.clone(),
            name: new.name,
            visibility: new.visibility.as_str().to_owned(),
            description: new.description,
            made_by: principal.key.to_string(),
            created_at_ms: now_ms,
            updated_at_ms: now_ms,
            deleted_at_ms: None,
        };
        let transaction = begin_write_of(&self.db, &row.tenant()).await?;
        tenants::lock(&transaction, &row.tenant()).await?;
        let given = hooks::count_of(&transaction, &principal.tenant).await?;
        RegistryError::unless_fewer(given, self.config.settings.hooks.max_per_tenant, |given, limit| {
            let (of, setting) = (format!("`{}`", row.owner), "registry.hooks.max_per_tenant");
            RegistryError::TooMany { what: "hooks", of, setting, limit, given, remedy: "delete one first" }
        })?;
        let row = match hooks::insert(&transaction, row.clone()).await {
            Ok(row) => row,
            Err(error) if is_unique_violation(&error) => {
                transaction.rollback().await?;
                return Err(self.hook_name_in_use(&row).await?);
            }
            Err(error) => return Err(error.into()),
        };
        let made = HookDetails { row, latest: None };
        note(
            &transaction,
            Actor::of(principal),
            &made.row,
            "hook.created",
            json!({ "visibility": made.row.visibility }),
        )
        .await?;
        once.keep_in(&transaction, || shape(made.clone())).await?;
        transaction.commit().await?;
        let HookRow { owner, name, .. } = &made.row;
        tracing::info!(hook.owner = owner, hook.name = name, "Made hook {owner}/{name}");
        Ok(made)
    }

    /// Tells a name that is in use from one that was.
    async fn hook_name_in_use(&self, row: &HookRow) -> Result<RegistryError, RegistryError> {
        let name = row.full_name();
        let found = hooks::ever(&self.db, &row.owner, &row.name).await?;
        Ok(if found.is_some_and(|found| found.deleted_at_ms.is_some()) {
            RegistryError::Retired { what: "hook", name }
        } else {
            RegistryError::AlreadyExists { what: "hook", name }
        })
    }

    /// The hooks that the caller may see, by owner and name; a sort key is `owner/name`.
    pub(crate) async fn list_hooks(
        &self,
        principal: &Principal,
        filter: Filter,
        slice: Slice,
    ) -> Result<Vec<HookDetails>, RegistryError> {
        require(principal, Action::ListHooks)?;
        let limit = slice.with_one_more();
        let after = match &slice.after {
            Some(key) => key.split_once('/').map(|(owner, name)| Some((owner.to_owned(), name.to_owned()))),
            None => Some(None),
        };
        let filter = Filter { after: after.ok_or_else(wrong_cursor)?, ..filter };
        let rows = hooks::list(&self.db, &principal.tenant, &filter, limit).await?;
        let mut latest = self.latest_of_hooks(&rows).await?;
        Ok(rows.into_iter().map(|row| HookDetails { latest: latest.remove(&row.id), row }).collect())
    }

    /// One hook.
    pub(crate) async fn get_hook(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
    ) -> Result<HookDetails, RegistryError> {
        let row = self.hook_for(principal, Action::GetHook, owner, name).await?;
        self.hook_details(row).await
    }

    /// Changes a hook's visibility or description; what is `None` stays. Where fewer tenants may attach it then, what the others
    /// have attached fails from the next request on.
    pub(crate) async fn update_hook(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        visibility: Option<Visibility>,
        description: Option<String>,
    ) -> Result<HookDetails, RegistryError> {
        let seen = self.hook_for(principal, Action::UpdateHook, owner, name).await?;
        let findings = [visibility.and_then(check_visibility), description.as_deref().and_then(check_description)];
        RegistryError::unless_valid(findings.into_iter().flatten().collect())?;
        let transaction = begin_write_of(&self.db, &seen.tenant()).await?;
        // What somebody else changed meanwhile stays changed.
        let mut row = still_there(&transaction, &seen).await?;
        row.updated_at_ms = now_ms();
        let mut changes = json!({});
        if let Some(visibility) = visibility {
            row.visibility = visibility.as_str().to_owned();
            changes["visibility"] = json!(row.visibility);
        }
        if let Some(description) = description {
            row.description = description;
            changes["description"] = json!("changed");
        }
        if !hooks::update(&transaction, &row).await? {
            return Err(hook_not_found(owner, name));
        }
        note(&transaction, Actor::of(principal), &row, "hook.updated", changes).await?;
        transaction.commit().await?;
        self.hook_details(row).await
    }

    /// Deletes a hook with its versions, what was granted and what it said, and the bytes that nothing else refers to. What is
    /// attached of it fails from the next request on. Its name can never be used again.
    pub(crate) async fn delete_hook(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
    ) -> Result<(), RegistryError> {
        let hook = self.hook_for(principal, Action::DeleteHook, owner, name).await?;
        let transaction = begin_write_of(&self.db, &hook.tenant()).await?;
        // Of two that delete it at once, one has.
        let freed = delete_rows(&transaction, &hook).await?.ok_or_else(|| hook_not_found(owner, name))?;
        note(&transaction, Actor::of(principal), &hook, "hook.deleted", json!({})).await?;
        transaction.commit().await?;
        tracing::info!(hook.owner = owner, hook.name = name, "Deleted hook {owner}/{name}");
        blobs::remove_released(&self.db, &*self.objects, freed).await;
        Ok(())
    }

    async fn hook_details(&self, row: HookRow) -> Result<HookDetails, RegistryError> {
        let mut latest = self.latest_of_hooks(std::slice::from_ref(&row)).await?;
        Ok(HookDetails { latest: latest.remove(&row.id), row })
    }

    /// The latest version of each of the hooks that has one, by the hook's id.
    async fn latest_of_hooks(&self, rows: &[HookRow]) -> Result<HashMap<String, Version>, RegistryError> {
        let ready = hook_versions::ready_of(&self.db, rows.iter().map(|hook| hook.id.as_str())).await?;
        let mut latest = HashMap::<String, Version>::new();
        for row in ready {
            let version = row.number();
            if version.pre.is_empty() && latest.get(&row.hook_id).is_none_or(|best| *best < version) {
                latest.insert(row.hook_id, version);
            }
        }
        Ok(latest)
    }
}

/// Nobody asks for access to a hook: it is granted, or it is there for all.
fn check_visibility(visibility: Visibility) -> Option<Finding> {
    let is_gated = visibility == Visibility::Gated;
    is_gated.then(|| Finding::field("visibility", "`private`, `shared` or `public`, given `gated`"))
}

fn check_description(description: &str) -> Option<Finding> {
    let given = description.chars().count();
    let message = format!("at most {MAX_DESCRIPTION_CHARS} characters, given {given}");
    (given > MAX_DESCRIPTION_CHARS).then(|| Finding::field("description", message))
}
