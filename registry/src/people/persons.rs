//! What a person can do for themselves, and what the operator can do with a person.

use serde_json::json;
use souk_protocol::Principal;
use souk_protocol::reference::check_name_part;

use super::Role;
use super::members::another_owner;
use crate::Registry;
use crate::audit::{Act, Actor, INSTALLATION, append};
use crate::db::{
    PersonRow, SessionRow, TenantRow, api_keys, begin_write, identities, invitations, is_unique_violation, limits,
    members, persons, sessions, sign_in_links, tenants,
};
use crate::error::{Finding, RegistryError};
use crate::keys::Why;
use crate::rights::{Action, require};
use crate::sessions::end_sessions;

/// Tenants of a person that are left when it is erased.
const MAX_TENANTS: u64 = 100_000;

impl Registry {
    /// Makes a tenant whose owner is the person of the session, where the operator lets people do so; the session then
    /// acts for it.
    pub(crate) async fn make_own_tenant(&self, session: &SessionRow, name: &str) -> Result<TenantRow, RegistryError> {
        if !self.config.settings.self_service {
            return Err(RegistryError::SelfServiceOff);
        }
        if session.is_confined {
            return Err(RegistryError::SessionConfined);
        }
        let finding = check_name_part("name", name).err().map(|error| Finding::field("name", error.to_string()));
        RegistryError::unless_valid(finding.into_iter().collect())?;
        let person_id = &session.person_id;
        let transaction = begin_write(&self.db).await?;
        // Locked, so that two requests cannot both be the last that the limit lets in.
        persons::lock(&transaction, person_id).await?.ok_or(RegistryError::SessionOver)?;
        let given = members::count_as(&transaction, person_id, Role::Owner.as_str()).await?;
        RegistryError::unless_fewer(given, self.config.settings.max_tenants_per_person, |given, limit| {
            let (of, setting) = ("the person".to_owned(), "registry.max_tenants_per_person");
            let remedy = "leave one, or ask the operator for a further one";
            RegistryError::TooMany { what: "tenants as their owner", of, setting, limit, given, remedy }
        })?;
        let tenant = tenants::insert(&transaction, name).await.map_err(|error| {
            if is_unique_violation(&error) {
                return RegistryError::AlreadyExists { what: "tenant", name: name.to_owned() };
            }
            error.into()
        })?;
        members::insert(&transaction, &tenant.tenant(), person_id, Role::Owner.as_str()).await?;
        if !sessions::choose(&transaction, &session.id, &tenant.tenant()).await? {
            return Err(RegistryError::SessionOver);
        }
        let actor = || Actor::Person { id: person_id.clone(), key: session.id.clone() };
        let act = |action, subject, details| Act { tenant_id: &tenant.id, action, subject, details };
        append(&transaction, actor(), act("tenant.created", &tenant.id, json!({}))).await?;
        append(&transaction, actor(), act("member.joined", person_id, json!({ "role": Role::Owner.as_str() }))).await?;
        transaction.commit().await?;
        tracing::info!(tenant.name = name, person.id = person_id, "{person_id} made tenant {name}");
        Ok(tenant)
    }

    /// Whose the key or session is that was presented, and what that person is in its tenant; `None` for a service's.
    pub(crate) async fn person_of(
        &self,
        principal: &Principal,
    ) -> Result<Option<(PersonRow, Option<Role>)>, RegistryError> {
        require(principal, Action::WhoAmI)?;
        let Some(person_id) = &principal.person else { return Ok(None) };
        let Some(person) = persons::get(&self.db, person_id.as_str()).await? else { return Ok(None) };
        let member = members::get(&self.db, &principal.tenant, person_id.as_str()).await?;
        Ok(Some((person, member.map(|member| Role::from_column(&member.role)))))
    }

    /// Erases a person: nothing is left of them but an id, to which others refer. They are a member nowhere any more, and
    /// nothing works with which they acted. A last owner has to be followed by another first.
    pub(crate) async fn erase_person(&self, principal: &Principal, person_id: &str) -> Result<(), RegistryError> {
        require(principal, Action::ErasePerson)?;
        let not_found = || RegistryError::NotFound { what: "person", name: person_id.to_owned() };
        let transaction = begin_write(&self.db).await?;
        let person = persons::get(&transaction, person_id).await?.ok_or_else(not_found)?;
        let memberships = members::of_person(&transaction, person_id, MAX_TENANTS).await?;
        let sessions = sessions::ids_of_persons(&transaction, [person_id]).await?;
        let mut withdrawn = end_sessions(&transaction, &self.owner, sessions).await?;
        for (member, tenant) in &memberships {
            if Role::from_column(&member.role) == Role::Owner {
                another_owner(&transaction, &tenant.tenant()).await?;
            }
            members::delete(&transaction, member).await?;
            limits::delete_of(&transaction, &tenant.tenant(), &member.subject()).await?;
            withdrawn.extend(self.end_what_is_of(&transaction, principal, member, Why::Left).await?);
        }
        sessions::forget_clients_of(&transaction, person_id).await?;
        sign_in_links::delete_of_person(&transaction, person_id).await?;
        identities::delete_of_person(&transaction, person_id).await?;
        invitations::forget(&transaction, person_id, person.email.as_deref()).await?;
        api_keys::forget_names_of(&transaction, person_id).await?;
        persons::erase(&transaction, person_id).await?;
        for (_, tenant) in &memberships {
            let act = Act { tenant_id: &tenant.id, action: "member.erased", subject: person_id, details: json!({}) };
            append(&transaction, Actor::of(principal), act).await?;
        }
        let act = Act { tenant_id: INSTALLATION, action: "person.erased", subject: person_id, details: json!({}) };
        append(&transaction, Actor::of(principal), act).await?;
        transaction.commit().await?;
        self.withdrawals.tell(withdrawn);
        tracing::warn!(person.id = person_id, by.key = %principal.key, "Erased {person_id}");
        Ok(())
    }
}
