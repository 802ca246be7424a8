//! Adapters: a name, who may see it, and its versions.

mod lookup;

use std::collections::HashMap;

use sea_orm::{DatabaseTransaction, DbErr};
use semver::Version;
use serde::Serialize;
use serde_json::{Value, json};
use souk_protocol::reference::check_name_part;
use souk_protocol::{AdapterName, Deprived, Principal, TenantId};
use uuid::Uuid;

use crate::Registry;
use crate::audit::{self, Act, Actor};
use crate::db::adapters::Filter;
use crate::db::{
    AdapterRow, access_requests, adapter_gates, adapter_grants, adapters, begin_write, begin_write_of,
    is_unique_violation, now_ms, tags, tenants, version_files, versions, withdrawals,
};
use crate::error::{Finding, RegistryError};
use crate::events::{self, Event, Kind};
use crate::idempotency::Once;
use crate::rights::{Action, require, require_decider};
use crate::slice::{Slice, wrong_cursor};
use crate::withdrawals::Withdrawn;
use crate::words::{RequestState, Visibility};
use crate::{blobs, db};

pub(crate) use lookup::{adapter_not_found, existing_version, version_not_found};

/// Longest description.
const MAX_DESCRIPTION_CHARS: usize = 4000;

/// An adapter as a caller asks for it, unchecked.
pub(crate) struct NewAdapter {
    pub(crate) name: String,
    /// The tenant that should own it: the caller's own, which is also meant by `None`.
    pub(crate) owner: Option<String>,
    pub(crate) visibility: Visibility,
    pub(crate) description: String,
}

/// An adapter and the version that its name means.
#[derive(Clone)]
pub(crate) struct AdapterDetails {
    pub(crate) row: AdapterRow,
    /// The highest ready version that is not a pre-release.
    pub(crate) latest: Option<Version>,
}

impl Registry {
    /// Makes an adapter without versions. `shape` makes the answer that is kept for an `Idempotency-Key`.
    pub(crate) async fn create_adapter<A: Serialize>(
        &self,
        principal: &Principal,
        new: NewAdapter,
        once: &Once,
        shape: impl FnOnce(AdapterDetails) -> A,
    ) -> Result<AdapterDetails, RegistryError> {
        require(principal, Action::CreateAdapter)?;
        let tenant = &principal.tenant_name;
        let name = check_name_part("name", &new.name).err().map(|error| Finding::field("name", error.to_string()));
        let owner = new
            .owner
            .filter(|owner| owner != tenant)
            .map(|owner| Finding::field("owner", format!("your key's tenant is `{tenant}`, given `{owner}`")));
        let findings = [name, owner, check_description(&new.description)];
        RegistryError::unless_valid(findings.into_iter().flatten().collect())?;
        let now_ms = now_ms();
        let row = AdapterRow {
            id: format!("adp_{}", Uuid::now_v7().simple()),
            tenant_id: principal.tenant.to_string(),
            owner: tenant.clone(),
            name: new.name,
            visibility: new.visibility.as_str().to_owned(),
            description: new.description,
            created_at_ms: now_ms,
            updated_at_ms: now_ms,
            deleted_at_ms: None,
            // Without a version it is no model.
            listed_as: String::new(),
        };
        let transaction = begin_write_of(&self.db, &row.tenant()).await?;
        tenants::lock(&transaction, &row.tenant()).await?;
        let given = adapters::count_of(&transaction, &principal.tenant).await?;
        RegistryError::unless_fewer(given, self.config.settings.max_adapters_per_tenant, |given, limit| {
            let (of, setting) = (format!("`{}`", row.owner), "registry.max_adapters_per_tenant");
            RegistryError::TooMany { what: "adapters", of, setting, limit, given, remedy: "delete one first" }
        })?;
        let row = match adapters::insert(&transaction, row.clone()).await {
            Ok(row) => row,
            Err(error) if is_unique_violation(&error) => {
                transaction.rollback().await?;
                return Err(self.name_in_use(&row).await?);
            }
            Err(error) => return Err(error.into()),
        };
        let made = AdapterDetails { row, latest: None };
        let details = json!({ "adapter": made.row.id, "visibility": made.row.visibility });
        note(&transaction, principal, &made.row, "adapter.created", details).await?;
        once.keep_in(&transaction, || shape(made.clone())).await?;
        transaction.commit().await?;
        let AdapterRow { owner, name, .. } = &made.row;
        tracing::info!(adapter.owner = owner, adapter.name = name, "Made adapter {owner}/{name}");
        Ok(made)
    }

    /// Tells a name that is in use from one that was.
    async fn name_in_use(&self, row: &AdapterRow) -> Result<RegistryError, RegistryError> {
        let name = format!("{}/{}", row.owner, row.name);
        Ok(if adapters::is_retired(&self.db, &row.owner, &row.name).await? {
            RegistryError::Retired { what: "adapter", name }
        } else {
            RegistryError::AlreadyExists { what: "adapter", name }
        })
    }

    /// The adapters that the caller may see, by owner and name; a sort key is `owner/name`.
    pub(crate) async fn list_adapters(
        &self,
        principal: &Principal,
        filter: Filter,
        slice: Slice,
    ) -> Result<Vec<AdapterDetails>, RegistryError> {
        require(principal, Action::ListAdapters)?;
        let limit = slice.with_one_more();
        let after = match &slice.after {
            Some(key) => key.split_once('/').map(|(owner, name)| Some((owner.to_owned(), name.to_owned()))),
            None => Some(None),
        };
        let filter = Filter { after: after.ok_or_else(wrong_cursor)?, ..filter };
        let rows = adapters::list(&self.db, &principal.tenant, &filter, limit).await?;
        let mut latest = self.latest_versions(&rows).await?;
        let details = |row: AdapterRow| AdapterDetails { latest: latest.remove(&row.id), row };
        Ok(rows.into_iter().map(details).collect())
    }

    /// One adapter.
    pub(crate) async fn get_adapter(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
    ) -> Result<AdapterDetails, RegistryError> {
        let row = self.adapter_for(principal, Action::GetAdapter, owner, name).await?;
        self.adapter_details(row).await
    }

    /// Changes an adapter's visibility or description; what is `None` stays. Where fewer tenants may call it then, answers
    /// that run for the others end.
    pub(crate) async fn update_adapter(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
        visibility: Option<Visibility>,
        description: Option<String>,
    ) -> Result<AdapterDetails, RegistryError> {
        let seen = self.adapter_for(principal, Action::UpdateAdapter, owner, name).await?;
        let finding = description.as_deref().and_then(check_description);
        RegistryError::unless_valid(finding.into_iter().collect())?;
        // Withdrawals are numbered in the order of their commits.
        let transaction = match visibility {
            Some(_) => begin_write(&self.db).await?,
            None => begin_write_of(&self.db, &seen.tenant()).await?,
        };
        // What somebody else changed meanwhile stays changed.
        let found = adapters::live(&transaction, owner, name).await?;
        let mut row = found.ok_or_else(|| adapter_not_found(owner, name))?;
        row.updated_at_ms = now_ms();
        let mut changes = json!({ "adapter": row.id });
        let before = Visibility::from_column(&row.visibility);
        if let Some(visibility) = visibility {
            row.visibility = visibility.as_str().to_owned();
            changes["visibility"] = json!(row.visibility);
        }
        if let Some(description) = description {
            row.description = description;
            changes["description"] = json!("changed");
        }
        let hides = visibility.is_some_and(|visibility| visibility.hides_from_some_that(before));
        let becomes_gated = visibility == Some(Visibility::Gated) && before != Visibility::Gated;
        if becomes_gated && adapter_grants::count_of(&transaction, &row.id).await? > 0 {
            // Who has it of a gated one is what persons decide.
            require_decider(principal)?;
        }
        if !adapters::update(&transaction, &row).await? {
            return Err(adapter_not_found(owner, name));
        }
        adapters::relist(&transaction, [row.id.as_str()]).await?;
        let withdrawn = if hides { vec![hidden(&row)] } else { Vec::new() };
        withdrawals::insert_all(&transaction, &self.owner, withdrawn.iter().map(Withdrawn::to_row)).await?;
        note(&transaction, principal, &row, "adapter.updated", changes).await?;
        transaction.commit().await?;
        self.withdrawals.tell(withdrawn);
        self.adapter_details(row).await
    }

    /// Deletes an adapter with its versions and tags, and the bytes that nothing else refers to; answers that run for others
    /// end. Its name can never be
    /// used again. What was taken down of it stays noted.
    pub(crate) async fn delete_adapter(
        &self,
        principal: &Principal,
        owner: &str,
        name: &str,
    ) -> Result<(), RegistryError> {
        let adapter = self.adapter_for(principal, Action::DeleteAdapter, owner, name).await?;
        let transaction = begin_write(&self.db).await?;
        // Of two that delete it at once, one has.
        let freed = delete_rows(&transaction, &adapter).await?.ok_or_else(|| adapter_not_found(owner, name))?;
        let withdrawn = hidden(&adapter);
        withdrawals::insert_all(&transaction, &self.owner, [withdrawn.to_row()]).await?;
        note(&transaction, principal, &adapter, "adapter.deleted", json!({ "adapter": adapter.id })).await?;
        transaction.commit().await?;
        self.withdrawals.tell([withdrawn]);
        tracing::info!(adapter.owner = owner, adapter.name = name, "Deleted adapter {owner}/{name}");
        blobs::remove_released(&self.db, &*self.objects, freed).await;
        Ok(())
    }

    async fn adapter_details(&self, row: AdapterRow) -> Result<AdapterDetails, RegistryError> {
        let mut latest = self.latest_versions(std::slice::from_ref(&row)).await?;
        Ok(AdapterDetails { latest: latest.remove(&row.id), row })
    }

    /// The latest version of each of the adapters that has one, by the adapter's id.
    async fn latest_versions(&self, adapters: &[AdapterRow]) -> Result<HashMap<String, Version>, RegistryError> {
        let ready = versions::ready_of(&self.db, adapters.iter().map(|adapter| adapter.id.as_str())).await?;
        let mut latest = HashMap::<String, Version>::new();
        for row in ready {
            let version = row.number();
            if version.pre.is_empty() && latest.get(&row.adapter_id).is_none_or(|best| *best < version) {
                latest.insert(row.adapter_id, version);
            }
        }
        Ok(latest)
    }
}

/// Deletes an adapter with its versions and tags; what is left are the names. Answers the blobs to which a reference ended, for
/// [`blobs::remove_released`]; `None` if the adapter was gone.
pub(crate) async fn delete_rows(
    transaction: &DatabaseTransaction,
    adapter: &AdapterRow,
) -> Result<Option<Vec<String>>, DbErr> {
    if !adapters::delete(transaction, &adapter.id).await? {
        return Ok(None);
    }
    tags::delete_of_adapter(transaction, &adapter.id).await?;
    adapter_grants::delete_of_adapter(transaction, &adapter.id).await?;
    adapter_gates::delete_of_adapter(transaction, &adapter.id).await?;
    close_requests(transaction, adapter).await?;
    let freed = version_files::delete_of_adapter(transaction, &adapter.id).await?;
    tenants::add_stored(transaction, &adapter.tenant(), -freed.size_bytes).await?;
    versions::delete_of_adapter(transaction, &adapter.id).await?;
    db::blobs::release(transaction, &freed.digests).await?;
    Ok(Some(freed.digests))
}

/// Ends the requests for access to an adapter that is no more, and tells who asked.
async fn close_requests(transaction: &DatabaseTransaction, adapter: &AdapterRow) -> Result<(), DbErr> {
    for mut request in access_requests::standing_of(transaction, &adapter.id).await? {
        let from = request.state();
        let to = if from == RequestState::Approved { RequestState::Revoked } else { RequestState::Rejected };
        request.state = to.as_str().to_owned();
        request.decided_at_ms = Some(now_ms());
        request.reason = Some("the adapter was deleted".to_owned());
        access_requests::step(transaction, from, &request).await?;
        let payload = json!({
            "request": request.id, "adapter": adapter.full_name(), "state": request.state, "reason": request.reason,
            "expires_at_ms": null,
        });
        let (tenant, subject) = (&TenantId::from_stored(&request.tenant_id), &request.id);
        events::emit(transaction, Event { tenant, kind: Kind::AccessDecided, subject, payload }).await?;
    }
    Ok(())
}

/// Appends to the chain of the adapter's tenant what was done with it.
async fn note(
    transaction: &DatabaseTransaction,
    principal: &Principal,
    adapter: &AdapterRow,
    action: &'static str,
    details: Value,
) -> Result<(), DbErr> {
    let subject = &format!("{}/{}", adapter.owner, adapter.name);
    audit::append(transaction, Actor::of(principal), Act { tenant_id: &adapter.tenant_id, action, subject, details })
        .await
}

/// That an adapter is hidden from others than its owner. Those that may still call it come again.
pub(crate) fn hidden(adapter: &AdapterRow) -> Withdrawn {
    let name = AdapterName::new(&adapter.owner, &adapter.name).expect("only checked names are stored");
    Withdrawn::Access { adapter: name, from: Deprived::AllBut(adapter.tenant()) }
}

fn check_description(description: &str) -> Option<Finding> {
    let num_chars = description.chars().count();
    let detail = format!("at most {MAX_DESCRIPTION_CHARS} characters, given {num_chars}");
    (num_chars > MAX_DESCRIPTION_CHARS).then(|| Finding::field("description", detail))
}
