//! Teams: some members and keys of a tenant, which have limits together. A member is of one team or of none, with all sessions
//! and keys of the person's; a service's key is of the team that it was made for.
//!
//! A team that is deleted leaves them without one. Its limits go with it, and what was used stays counted under its id, which is
//! never given again.

use sea_orm::ConnectionTrait;
use serde::Serialize;
use serde_json::{Value, json};
use souk_protocol::limits::Subject;
use souk_protocol::reference::check_name_part;
use souk_protocol::{Principal, TenantId};

use crate::Registry;
use crate::audit::{self, Act, Actor};
use crate::db::{MemberRow, TeamRow, api_keys, begin_write_of, is_unique_violation, limits, members, teams};
use crate::error::{Finding, RegistryError};
use crate::idempotency::Once;
use crate::rights::{Action, require};
use crate::slice::Slice;
use crate::tenants::check_not_erased;

impl Registry {
    /// Makes a team. `tenant` is a name; `None` means the caller's own. `shape` makes the answer that is kept for an
    /// `Idempotency-Key`.
    pub(crate) async fn create_team<A: Serialize>(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
        name: &str,
        once: &Once,
        shape: impl FnOnce(TeamRow) -> A,
    ) -> Result<TeamRow, RegistryError> {
        require(principal, Action::CreateTeam)?;
        let finding = check_name_part("name", name).err().map(|error| Finding::field("name", error.to_string()));
        RegistryError::unless_valid(finding.into_iter().collect())?;
        let tenant = self.tenant_meant(principal, tenant).await?;
        let transaction = begin_write_of(&self.db, &tenant).await?;
        self.require_still(&transaction, principal, Action::CreateTeam).await?;
        check_not_erased(&transaction, &tenant).await?;
        let given = teams::count_of(&transaction, &tenant).await?;
        RegistryError::unless_fewer(given, self.config.settings.max_teams_per_tenant, |given, limit| {
            let (of, setting) = ("the tenant".to_owned(), "registry.max_teams_per_tenant");
            RegistryError::TooMany { what: "teams", of, setting, limit, given, remedy: "delete one first" }
        })?;
        let team = teams::insert(&transaction, &tenant, name).await.map_err(|error| {
            if is_unique_violation(&error) {
                return RegistryError::AlreadyExists { what: "team", name: name.to_owned() };
            }
            error.into()
        })?;
        let act = Act { tenant_id: tenant.as_str(), action: "team.created", subject: &team.id, details: json!({}) };
        audit::append(&transaction, Actor::of(principal), act).await?;
        once.keep_in(&transaction, || shape(team.clone())).await?;
        transaction.commit().await?;
        Ok(team)
    }

    /// The teams of a tenant, by name.
    pub(crate) async fn list_teams(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
        slice: Slice,
    ) -> Result<Vec<TeamRow>, RegistryError> {
        require(principal, Action::ListTeams)?;
        let tenant = self.tenant_meant(principal, tenant).await?;
        let limit = slice.with_one_more();
        Ok(teams::list(&self.db, &tenant, slice.after, limit).await?)
    }

    /// Deletes a team with its limits. Who was of it is of none.
    pub(crate) async fn delete_team(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
        id: &str,
    ) -> Result<(), RegistryError> {
        require(principal, Action::DeleteTeam)?;
        let tenant = self.tenant_meant(principal, tenant).await?;
        let transaction = begin_write_of(&self.db, &tenant).await?;
        self.require_still(&transaction, principal, Action::DeleteTeam).await?;
        let team = team_in(&transaction, &tenant, id).await?;
        let num_members = members::leave_team(&transaction, &tenant, id).await?;
        let num_keys = api_keys::leave_team(&transaction, &tenant, id).await?;
        limits::delete_of(&transaction, &tenant, &Subject::Team(team.team())).await?;
        teams::delete(&transaction, id).await?;
        let details = json!({ "num_members": num_members, "num_keys": num_keys });
        let act = Act { tenant_id: tenant.as_str(), action: "team.deleted", subject: id, details };
        audit::append(&transaction, Actor::of(principal), act).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Puts a member into a team, out of the one that it was of.
    pub(crate) async fn add_team_member(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
        (team, person): (&str, &str),
    ) -> Result<(), RegistryError> {
        let is_of = |member: &MemberRow| member.team_id.as_deref() == Some(team);
        self.move_member(principal, Action::AddTeamMember, tenant, (team, person), |member| {
            let details = json!({ "team": team, "from": member.team_id });
            Ok((!is_of(member)).then_some(("team.member_added", Some(team), details)))
        })
        .await
    }

    /// Takes a member out of the team that it is of.
    pub(crate) async fn remove_team_member(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
        (team, person): (&str, &str),
    ) -> Result<(), RegistryError> {
        self.move_member(principal, Action::RemoveTeamMember, tenant, (team, person), |member| {
            if member.team_id.as_deref() != Some(team) {
                return Err(no_member(person));
            }
            Ok(Some(("team.member_removed", None, json!({ "team": team }))))
        })
        .await
    }

    /// Does with a member what `change` says: what it is called, of which team the member is then, what else is told; nothing
    /// for `None`.
    async fn move_member<'a>(
        &self,
        principal: &Principal,
        action: Action,
        tenant: Option<&str>,
        (team, person): (&str, &str),
        change: impl FnOnce(&MemberRow) -> Result<Option<(&'static str, Option<&'a str>, Value)>, RegistryError>,
    ) -> Result<(), RegistryError> {
        require(principal, action)?;
        let tenant = self.tenant_meant(principal, tenant).await?;
        let transaction = begin_write_of(&self.db, &tenant).await?;
        self.require_still(&transaction, principal, action).await?;
        team_in(&transaction, &tenant, team).await?;
        let member = members::get(&transaction, &tenant, person).await?.ok_or_else(|| no_member(person))?;
        let Some((action, to, details)) = change(&member)? else { return Ok(()) };
        members::set_team(&transaction, &member, to).await?;
        let act = Act { tenant_id: tenant.as_str(), action, subject: person, details };
        audit::append(&transaction, Actor::of(principal), act).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// A team of the tenant; another's is told apart from none by nothing.
pub(crate) async fn team_in(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    id: &str,
) -> Result<TeamRow, RegistryError> {
    let not_found = || RegistryError::NotFound { what: "team", name: id.to_owned() };
    teams::of_tenant(connection, tenant, id).await?.ok_or_else(not_found)
}

fn no_member(person: &str) -> RegistryError {
    RegistryError::NotFound { what: "member", name: person.to_owned() }
}
