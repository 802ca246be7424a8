//! Members of a tenant: who is there, as what, and how one leaves.

use std::collections::HashMap;

use sea_orm::DatabaseTransaction;
use serde_json::json;
use souk_protocol::{PersonId, Principal, TenantId};

use super::Role;
use crate::Registry;
use crate::audit::{Act, Actor, append};
use crate::db::{MemberRow, PersonRow, begin_write, invitations, limits, members, persons, sessions, sign_in_links};
use crate::error::RegistryError;
use crate::keys::{Why, revoke_of_person, take_back};
use crate::rights::{Action, require};
use crate::sessions::end_sessions;
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
        let tenant = self.tenant_meant(principal, tenant).await?;
        // Withdrawals are numbered in the order of their commits.
        let transaction = begin_write(&self.db).await?;
        may_give(&self.require_still(&transaction, principal, Action::ChangeRole).await?, role)?;
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
        let withdrawn = if loses_scopes {
            self.end_what_acts(&transaction, principal, &member, Why::Lowered).await?
        } else {
            Vec::new()
        };
        // Whoever has a link was to sign in with the role of before.
        sign_in_links::delete_of_member(&transaction, &tenant, person_id).await?;
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
        self.end_membership(principal, Action::RemoveMember, &tenant, person_id).await
    }

    /// The caller leaves the tenant that the session acts for.
    pub(crate) async fn leave(&self, principal: &Principal) -> Result<(), RegistryError> {
        require(principal, Action::LeaveTenant)?;
        let person = principal.person.as_ref().ok_or(RegistryError::PersonNeeded)?;
        self.end_membership(principal, Action::LeaveTenant, &principal.tenant, person.as_str()).await
    }

    async fn end_membership(
        &self,
        principal: &Principal,
        action: Action,
        tenant: &TenantId,
        person_id: &str,
    ) -> Result<(), RegistryError> {
        let transaction = begin_write(&self.db).await?;
        self.require_still(&transaction, principal, action).await?;
        let (member, _) = member_in(&transaction, tenant, person_id).await?;
        if Role::from_column(&member.role) == Role::Owner {
            another_owner(&transaction, tenant).await?;
        }
        members::delete(&transaction, &member).await?;
        limits::delete_of(&transaction, tenant, &member.subject()).await?;
        let withdrawn = self.end_what_acts(&transaction, principal, &member, Why::Left).await?;
        let details = json!({ "role": member.role });
        let tenant_id = tenant.as_str();
        let action = if action == Action::LeaveTenant { "member.left" } else { "member.removed" };
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
    /// have been exchanged for a token of this one; and what is of this tenant alone ([`Self::end_what_is_of`]).
    async fn end_what_acts(
        &self,
        transaction: &DatabaseTransaction,
        principal: &Principal,
        member: &MemberRow,
        why: Why,
    ) -> Result<Vec<Withdrawn>, RegistryError> {
        let sessions = sessions::ids_of_persons(transaction, [member.person_id.as_str()]).await?;
        let mut withdrawn = end_sessions(transaction, &self.owner, sessions).await?;
        withdrawn.extend(self.end_what_is_of(transaction, principal, member, why).await?);
        Ok(withdrawn)
    }

    /// Ends what a person has in one tenant beside sessions: their own keys, links that sign in there, and the links and
    /// invitations that they made and nobody used yet, with which they could come back.
    pub(super) async fn end_what_is_of(
        &self,
        transaction: &DatabaseTransaction,
        principal: &Principal,
        member: &MemberRow,
        why: Why,
    ) -> Result<Vec<Withdrawn>, RegistryError> {
        let (tenant, person) = (member.tenant(), PersonId::from_stored(&member.person_id));
        sign_in_links::delete_of_member(transaction, &tenant, person.as_str()).await?;
        sign_in_links::delete_made_by_person(transaction, &tenant, person.as_str()).await?;
        let open = invitations::open_made_by_person(transaction, &tenant, person.as_str()).await?;
        take_back(transaction, &Actor::of(principal), &open, why).await?;
        Ok(revoke_of_person(transaction, &self.revoker(principal), &tenant, &person, why).await?)
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
