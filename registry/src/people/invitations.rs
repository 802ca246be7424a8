//! Invitations: an owner asks an address to become a member, and whoever has the link becomes one, once.
//!
//! The link is the proof that it reached whom it was meant for, unless a provider of identities vouches for another
//! address: then the two have to be the same. Of several who use one link at once, one becomes a member.

use sea_orm::DatabaseTransaction;
use serde::Serialize;
use serde_json::json;
use souk_protocol::{Principal, TenantId};

use super::members::may_give;
use super::{Email, Role, Secret};
use crate::Registry;
use crate::audit::{Act, Actor, append};
use crate::db::{
    InvitationRow, PersonRow, begin_write_of, invitations, is_unique_violation, members, ms_in, now_ms, tenants,
};
use crate::error::{Finding, RegistryError};
use crate::idempotency::Once;
use crate::rights::{Action, require};
use crate::slice::Slice;
use crate::tenants::check_not_erased;

/// What the id of an invitation begins with.
const PREFIX: &str = "inv";

/// An invitation as a caller asks for it, unchecked.
pub(crate) struct InvitationRequest {
    pub(crate) email: String,
    pub(crate) role: Role,
    /// A tenant's name; `None` for the caller's own.
    pub(crate) tenant: Option<String>,
}

/// An invitation with its link, which is nowhere else.
pub(crate) struct NewInvitation {
    pub(crate) row: InvitationRow,
    pub(crate) link: String,
}

/// How a person who uses an invitation is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// By a link: that they have this one too says as much as that.
    Link,
    /// By a provider of identities: the addresses have to be the same.
    Provider,
}

impl Registry {
    /// Makes an invitation; its secret is nowhere but in the answer. `shape` makes the answer that is kept for an
    /// `Idempotency-Key`, which has no link.
    pub(crate) async fn invite<A: Serialize>(
        &self,
        principal: &Principal,
        request: InvitationRequest,
        once: &Once,
        shape: impl FnOnce(InvitationRow) -> A,
    ) -> Result<NewInvitation, RegistryError> {
        require(principal, Action::CreateInvitation)?;
        let InvitationRequest { email, role, tenant } = request;
        let email = Email::parse(&email).map_err(|told| invalid_email(&told))?;
        let public_url = self.public_url()?;
        let tenant = self.tenant_meant(principal, tenant.as_deref()).await?;
        let secret = Secret::generate(PREFIX);
        let now_ms = now_ms();
        let transaction = begin_write_of(&self.db, &tenant).await?;
        may_give(&self.require_still(&transaction, principal, Action::CreateInvitation).await?, role)?;
        tenants::lock(&transaction, &tenant).await?;
        self.one_more_member(&transaction, &tenant).await?;
        let row = InvitationRow {
            id: secret.id().to_owned(),
            tenant_id: tenant.to_string(),
            email: Some(email.to_string()),
            role: role.as_str().to_owned(),
            secret_hash: secret.hash(),
            made_by: principal.key.to_string(),
            made_by_person: principal.person.as_ref().map(ToString::to_string),
            created_at_ms: now_ms,
            expires_at_ms: ms_in(self.config.sign_in.invitation),
            accepted_at_ms: None,
            accepted_by: None,
            revoked_at_ms: None,
        };
        let row = invitations::insert(&transaction, row).await?;
        let details = json!({ "role": row.role });
        let act = Act { tenant_id: tenant.as_str(), action: "invitation.created", subject: &row.id, details };
        append(&transaction, Actor::of(principal), act).await?;
        once.keep_in(&transaction, || shape(row.clone())).await?;
        transaction.commit().await?;
        tracing::info!(invitation.id = row.id, tenant.id = %tenant, by.key = %principal.key, "Made invitation {}", row.id);
        let link = public_url.at(&format!("/sign-in/invitation/{}", secret.expose()));
        Ok(NewInvitation { row, link })
    }

    /// A tenant's invitations, used ones included, by id. `tenant` is a name; `None` means the caller's own.
    pub(crate) async fn list_invitations(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
        slice: Slice,
    ) -> Result<Vec<InvitationRow>, RegistryError> {
        require(principal, Action::ListInvitations)?;
        let tenant = self.tenant_meant(principal, tenant).await?;
        let limit = slice.with_one_more();
        Ok(invitations::list(&self.db, &tenant, slice.after, limit).await?)
    }

    /// Takes an invitation back. One that was taken back stays so; one that was used cannot be.
    pub(crate) async fn revoke_invitation(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
        id: &str,
    ) -> Result<(), RegistryError> {
        require(principal, Action::RevokeInvitation)?;
        let tenant = self.tenant_meant(principal, tenant).await?;
        let transaction = begin_write_of(&self.db, &tenant).await?;
        self.require_still(&transaction, principal, Action::RevokeInvitation).await?;
        let found = invitations::get(&transaction, id).await?.filter(|row| row.tenant_id == tenant.as_str());
        let row = found.ok_or_else(|| RegistryError::NotFound { what: "invitation", name: id.to_owned() })?;
        if row.accepted_at_ms.is_some() {
            return Err(RegistryError::LinkOver);
        }
        if invitations::revoke(&transaction, id).await? {
            let act = Act { tenant_id: tenant.as_str(), action: "invitation.revoked", subject: id, details: json!({}) };
            append(&transaction, Actor::of(principal), act).await?;
            transaction.commit().await?;
            tracing::info!(invitation.id = id, by.key = %principal.key, "Took invitation {id} back");
        }
        Ok(())
    }

    /// The invitation whose link this is the end of, if it can be used now.
    pub(crate) async fn invitation_of(&self, presented: &str) -> Result<InvitationRow, RegistryError> {
        let secret = Secret::parse(PREFIX, presented).ok_or(RegistryError::LinkUnknown)?;
        let row = invitations::get(&self.db, secret.id()).await?.filter(|row| secret.is(&row.secret_hash));
        let row = row.ok_or(RegistryError::LinkUnknown)?;
        if row.is_open() { Ok(row) } else { Err(RegistryError::LinkOver) }
    }

    /// Makes the person a member as the invitation says, in a transaction that excludes the tenant's other writers.
    pub(crate) async fn accept_in(
        &self,
        transaction: &DatabaseTransaction,
        invitation: &InvitationRow,
        person: &PersonRow,
        (proof, session_id): (Proof, &str),
    ) -> Result<(), RegistryError> {
        if proof == Proof::Provider && !(person.email_is_verified && person.email == invitation.email) {
            return Err(RegistryError::OtherAddress);
        }
        if !invitations::accept(transaction, &invitation.id, &person.id).await? {
            return Err(RegistryError::LinkOver);
        }
        let tenant_id = &invitation.tenant_id;
        members::insert(transaction, &invitation.tenant(), &person.id, &invitation.role)
            .await
            .map_err(|error| if is_unique_violation(&error) { RegistryError::AlreadyMember } else { error.into() })?;
        let actor = Actor::Person { id: person.id.clone(), key: session_id.to_owned() };
        let details = json!({ "role": invitation.role, "invitation": invitation.id });
        append(transaction, actor, Act { tenant_id, action: "member.joined", subject: &person.id, details }).await?;
        Ok(())
    }

    /// Ends a call that would let in one more than a tenant may have, or one into a tenant that was erased; those who are
    /// asked count.
    async fn one_more_member(&self, transaction: &DatabaseTransaction, tenant: &TenantId) -> Result<(), RegistryError> {
        check_not_erased(transaction, tenant).await?;
        let given =
            members::count_of(transaction, tenant, None).await? + invitations::count_open(transaction, tenant).await?;
        RegistryError::unless_fewer(given, self.config.settings.max_members_per_tenant, |given, limit| {
            let (of, setting) = ("the tenant".to_owned(), "registry.max_members_per_tenant");
            let remedy = "remove a member or take an invitation back first";
            RegistryError::TooMany { what: "members and open invitations", of, setting, limit, given, remedy }
        })
    }
}

fn invalid_email(told: &str) -> RegistryError {
    RegistryError::invalid(vec![Finding::field("email", told)])
}
