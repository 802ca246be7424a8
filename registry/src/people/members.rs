//! Members of a tenant: who is there, as what, and how one leaves.

use std::collections::HashMap;

use sea_orm::DatabaseTransaction;
use serde_json::json;
use souk_protocol::{KeyId, PersonId, Principal, TenantId};

use super::Role;
use crate::Registry;
use crate::audit::{Act, Actor, append};
use crate::db::{MAX_IN, MemberRow, PersonRow, begin_write, members, persons, sessions, sign_in_links, withdrawals};
use crate::error::RegistryError;
use crate::keys::revoke_of_person;
use crate::rights::{Action, require};
use crate::slice::Slice;
use crate::withdrawals::Withdrawn;

/// A member and what is known of the person.
pub(crate) struct MemberDetails {
    pub(crate) row: MemberRow,
    pub(crate) person: PersonRow,
}

impl Registry {
    /// The members of a tenant, by the persons' ids. `tenant` is a name; `None` means the caller's own.
    pub(crate) async fn list_members(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
        slice: Slice,
    ) -> Result<Vec<MemberDetails>, RegistryError> {
        require(principal, Action::ListMembers)?;
        let tenant = self.tenant_meant(principal, tenant).await?;
        let limit = slice.with_one_more();
        let rows = members::list(&self.db, &tenant, slice.after, limit).await?;
        let found = persons::of_ids(&self.db, rows.iter().map(|row| row.person_id.clone())).await?;
        let mut found: HashMap<_, _> = found.into_iter().map(|person| (person.id.clone(), person)).collect();
        let with_person = |row: MemberRow| found.remove(&row.person_id).map(|person| MemberDetails { row, person });
        Ok(rows.into_iter().filter_map(with_person).collect())
    }

    /// Gives a member another role. The last owner stays one. Nobody gives away scopes that they lack. With fewer scopes
    /// than before the member signs in again: all that was made before ends, since tokens of it may live.
    pub(crate) async fn change_role(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
        person_id: &str,
        role: Role,
    ) -> Result<MemberDetails, RegistryError> {
        require(principal, Action::ChangeRole)?;
        may_give(principal, role)?;
        let tenant = self.tenant_meant(principal, tenant).await?;
        // Withdrawals are numbered in the order of their commits.
        let transaction = begin_write(&self.db).await?;
        let (member, person) = member_in(&transaction, &tenant, person_id).await?;
        let before = Role::from_column(&member.role);
        if before == role {
            return Ok(MemberDetails { row: member, person });
        }
        if before == Role::Owner {
            another_owner(&transaction, &tenant).await?;
        }
        members::set_role(&transaction, &member, role.as_str()).await?;
        let loses_scopes = !before.scopes().is_subset(&role.scopes());
        let withdrawn =
            if loses_scopes { self.end_what_acts(&transaction, principal, &member).await? } else { Vec::new() };
        let details = json!({ "from": before.as_str(), "to": role.as_str() });
        let act = Act { tenant_id: tenant.as_str(), action: "member.role_changed", subject: person_id, details };
        append(&transaction, Actor::of(principal), act).await?;
        transaction.commit().await?;
        self.withdrawals.tell(withdrawn);
        tracing::info!(
            person.id = person_id,
            tenant.id = %tenant,
            by.key = %principal.key,
            "Made {person_id} {} of {tenant}",
            role.as_str()
        );
        let row = MemberRow { role: role.as_str().to_owned(), ..member };
        Ok(MemberDetails { row, person })
    }

    /// Ends a membership: sessions and own keys of the person end with it. The last owner stays.
    pub(crate) async fn remove_member(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
        person_id: &str,
    ) -> Result<(), RegistryError> {
        require(principal, Action::RemoveMember)?;
        let tenant = self.tenant_meant(principal, tenant).await?;
        self.end_membership(principal, &tenant, person_id, "member.removed").await
    }

    /// The caller leaves the tenant that the session acts for.
    pub(crate) async fn leave(&self, principal: &Principal) -> Result<(), RegistryError> {
        require(principal, Action::LeaveTenant)?;
        let person = principal.person.as_ref().ok_or(RegistryError::PersonNeeded)?;
        self.end_membership(principal, &principal.tenant, person.as_str(), "member.left").await
    }

    async fn end_membership(
        &self,
        principal: &Principal,
        tenant: &TenantId,
        person_id: &str,
        action: &'static str,
    ) -> Result<(), RegistryError> {
        let transaction = begin_write(&self.db).await?;
        let (member, _) = member_in(&transaction, tenant, person_id).await?;
        if Role::from_column(&member.role) == Role::Owner {
            another_owner(&transaction, tenant).await?;
        }
        members::delete(&transaction, &member).await?;
        let withdrawn = self.end_what_acts(&transaction, principal, &member).await?;
        let details = json!({ "role": member.role });
        let tenant_id = tenant.as_str();
        append(&transaction, Actor::of(principal), Act { tenant_id, action, subject: person_id, details }).await?;
        transaction.commit().await?;
        self.withdrawals.tell(withdrawn);
        tracing::info!(
            person.id = person_id,
            tenant.id = %tenant,
            by.key = %principal.key,
            "{person_id} is no member of {tenant} any more"
        );
        Ok(())
    }

    /// Ends all with which a person may act for a tenant: every session, since one that acts for another tenant now may
    /// have been exchanged for a token of this one; links that sign in; their own keys of the tenant.
    pub(super) async fn end_what_acts(
        &self,
        transaction: &DatabaseTransaction,
        principal: &Principal,
        member: &MemberRow,
    ) -> Result<Vec<Withdrawn>, RegistryError> {
        let mut withdrawn = self.end_sessions_of(transaction, &member.person_id).await?;
        sign_in_links::delete_of_person(transaction, &member.person_id).await?;
        let (tenant, person) = (member.tenant(), PersonId::from_stored(&member.person_id));
        withdrawn.extend(revoke_of_person(transaction, &self.revoker(principal), &tenant, &person).await?);
        Ok(withdrawn)
    }

    /// Ends every session of a person; answers what is to be told after the commit.
    pub(super) async fn end_sessions_of(
        &self,
        transaction: &DatabaseTransaction,
        person_id: &str,
    ) -> Result<Vec<Withdrawn>, RegistryError> {
        let ids = sessions::ids_of_person(transaction, person_id).await?;
        for some in ids.chunks(MAX_IN) {
            sessions::end(transaction, some).await?;
        }
        let withdrawn: Vec<_> = ids.into_iter().map(|id| Withdrawn::Key(KeyId::from_stored(id))).collect();
        withdrawals::insert_all(transaction, &self.owner, withdrawn.iter().map(Withdrawn::to_row)).await?;
        Ok(withdrawn)
    }
}

/// A member, who is told apart neither from other persons nor from none.
pub(super) async fn member_in(
    transaction: &DatabaseTransaction,
    tenant: &TenantId,
    person_id: &str,
) -> Result<(MemberRow, PersonRow), RegistryError> {
    let member = members::get(transaction, tenant, person_id).await?;
    let person = persons::get(transaction, person_id).await?;
    let not_found = || RegistryError::NotFound { what: "member", name: person_id.to_owned() };
    member.zip(person).ok_or_else(not_found)
}

/// Ends a call that would leave a tenant without an owner.
pub(super) async fn another_owner(transaction: &DatabaseTransaction, tenant: &TenantId) -> Result<(), RegistryError> {
    let num_owners = members::count_of(transaction, tenant, Some(Role::Owner.as_str())).await?;
    if num_owners > 1 { Ok(()) } else { Err(RegistryError::LastOwner) }
}

/// Ends a call that would make somebody of a role which may more than the caller.
pub(super) fn may_give(principal: &Principal, role: Role) -> Result<(), RegistryError> {
    match role.scopes().into_iter().find(|scope| !principal.may(*scope)) {
        Some(missing) => Err(RegistryError::ScopeNotHeld(missing)),
        None => Ok(()),
    }
}
