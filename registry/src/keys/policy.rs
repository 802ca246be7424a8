//! What a tenant says of its keys: how long they live, what they may do, whether persons have keys of their own. It holds
//! for every key that is made or rotated; admin keys are the operator's and not bound by it.

use sea_orm::{ConnectionTrait, DbErr};
use serde_json::json;
use souk_protocol::{Principal, Scope, Scopes, TenantId};

use super::revoke::{Why, revoke};
use crate::Registry;
use crate::audit::{self, Act, Actor};
use crate::auth::{scopes_from_column, scopes_to_column};
use crate::db::{KeyRow, api_keys, begin_write, moment, now_ms, tenant_policies};
use crate::error::{Finding, RegistryError};
use crate::rights::{Action, OVER_ALL_KEYS, require};

const DAY_MS: i64 = 24 * 3600 * 1000;
/// Longest life that a policy may set: ten years.
const MAX_DAYS: i64 = 3650;

/// A policy as it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Days that a key lives at most; `None`: no bound.
    pub(crate) max_days: Option<i64>,
    /// What keys may do; `None`: whatever their makers may.
    pub(crate) scopes: Option<Scopes>,
    /// Whether persons may have keys of their own.
    pub(crate) personal_keys: bool,
    /// When it was set; `None`: it never was.
    pub(crate) updated_at_ms: Option<i64>,
}

/// A policy as a caller asks for it, unchecked.
pub(crate) struct NewPolicy {
    pub(crate) max_days: Option<i64>,
    /// Scopes by name.
    pub(crate) scopes: Option<Vec<String>>,
    pub(crate) personal_keys: bool,
}

/// A policy that was set, and the keys that it would not let be made.
pub(crate) struct SetPolicy {
    pub(crate) policy: Policy,
    pub(crate) breaking: Vec<Breaking>,
    /// Whether those were ended.
    pub(crate) are_ended: bool,
}

/// A key that breaks the policy.
pub(crate) struct Breaking {
    pub(crate) key: KeyRow,
    /// What of the policy it breaks.
    pub(crate) rules: Vec<Rule>,
}

/// What a policy bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Life,
    Scopes,
    Person,
}

impl Registry {
    /// A tenant's policy. `tenant` is a name; `None` means the caller's own.
    pub(crate) async fn policy(&self, principal: &Principal, tenant: Option<&str>) -> Result<Policy, RegistryError> {
        require(principal, Action::GetPolicy)?;
        let tenant = self.tenant_meant(principal, tenant).await?;
        Ok(Policy::of(&self.db, &tenant).await?)
    }

    /// Sets a tenant's policy, which holds from now on, and says which usable keys break it. Those are ended with it, and
    /// their running answers, if `end_breaking` says so; what was made with them stays.
    pub(crate) async fn set_policy(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
        new: NewPolicy,
        end_breaking: bool,
    ) -> Result<SetPolicy, RegistryError> {
        require(principal, Action::SetPolicy)?;
        let policy = new.check()?;
        let tenant = self.tenant_meant(principal, tenant).await?;
        let transaction = begin_write(&self.db).await?;
        self.require_still(&transaction, principal, Action::SetPolicy).await?;
        tenant_policies::put(&transaction, policy.to_row(&tenant)).await?;
        let usable = api_keys::usable_of(&transaction, &tenant).await?;
        let broken = |key: KeyRow| Breaking { rules: policy.broken_by(&key), key };
        let breaking: Vec<_> = usable.into_iter().map(broken).filter(|key| !key.rules.is_empty()).collect();
        let mut withdrawn = Vec::new();
        if let (true, Some(first)) = (end_breaking, breaking.first()) {
            let ids: Vec<_> = breaking.iter().map(|breaking| breaking.key.id.clone()).collect();
            if ids.iter().any(|id| id == principal.key.as_str()) {
                return Err(RegistryError::OwnKeyAgainstPolicy);
            }
            withdrawn =
                revoke(&transaction, &self.revoker(principal), &first.key, &ids, Why::Policy, json!({})).await?;
        }
        let details = json!({
            "max_key_days": policy.max_days, "scopes": policy.scopes.as_ref().map(scopes_to_column),
            "personal_keys": policy.personal_keys, "num_breaking": breaking.len(), "ended": end_breaking,
        });
        let act = Act { tenant_id: tenant.as_str(), action: "policy.set", subject: tenant.as_str(), details };
        audit::append(&transaction, Actor::of(principal), act).await?;
        transaction.commit().await?;
        self.withdrawals.tell(withdrawn);
        tracing::warn!(tenant.id = %tenant, by.key = %principal.key, num_breaking = breaking.len(), end_breaking, "The policy of a tenant's keys was set");
        Ok(SetPolicy { policy, breaking, are_ended: end_breaking })
    }
}

impl Policy {
    /// The policy of a tenant now.
    pub(crate) async fn of(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<Self, DbErr> {
        let row = tenant_policies::of(connection, tenant).await?;
        Ok(row.map_or(Self { max_days: None, scopes: None, personal_keys: true, updated_at_ms: None }, |row| Self {
            max_days: row.max_key_days,
            scopes: row.scopes.as_deref().map(scopes_from_column),
            personal_keys: row.personal_keys != 0,
            updated_at_ms: Some(row.updated_at_ms),
        }))
    }

    /// Ends a call that would make a key which may do more, or is a person's where there are to be none.
    pub(crate) fn check(&self, scopes: &Scopes, is_personal: bool) -> Result<(), RegistryError> {
        if scopes.contains(&OVER_ALL_KEYS) {
            return Ok(());
        }
        if let Some(allowed) = &self.scopes
            && let Some(beyond) = scopes.iter().find(|scope| !allowed.contains(scope))
        {
            let limit = format!("some of {}", scopes_to_column(allowed));
            return Err(RegistryError::AgainstPolicy { field: "scopes", limit, given: beyond.to_string() });
        }
        if is_personal && !self.personal_keys {
            let (limit, given) = ("a service's alone".to_owned(), "a person's".to_owned());
            return Err(RegistryError::AgainstPolicy { field: "whose", limit, given });
        }
        Ok(())
    }

    /// Those of the scopes that keys may have. Ends a call of which none is left.
    pub(crate) fn within(&self, scopes: &Scopes) -> Result<Scopes, RegistryError> {
        let Some(allowed) = &self.scopes else { return Ok(scopes.clone()) };
        let both: Scopes = scopes.intersection(allowed).copied().collect();
        if both.is_empty() {
            let limit = format!("some of {}", scopes_to_column(allowed));
            return Err(RegistryError::AgainstPolicy { field: "scopes", limit, given: scopes_to_column(scopes) });
        }
        Ok(both)
    }

    /// When a key expires that is made now with one that expires at `maker`: as asked for, and otherwise as late as may be
    /// and no later than `otherwise`.
    pub(crate) fn expiry(
        &self,
        scopes: &Scopes,
        maker: Option<i64>,
        asked: Option<i64>,
        otherwise: Option<i64>,
    ) -> Result<Option<i64>, RegistryError> {
        let max_days = self.max_days.filter(|_| !scopes.contains(&OVER_ALL_KEYS));
        within(maker, max_days.map(|days| now_ms() + days * DAY_MS), asked, otherwise)
    }

    /// What of it a key breaks.
    fn broken_by(&self, key: &KeyRow) -> Vec<Rule> {
        let scopes = scopes_from_column(&key.scopes);
        if scopes.contains(&OVER_ALL_KEYS) {
            return Vec::new();
        }
        let latest = self.max_days.map(|days| key.created_at_ms + days * DAY_MS);
        let lives_longer = latest.is_some_and(|latest| key.expires_at_ms.is_none_or(|expires| expires > latest));
        let may_more = self.scopes.as_ref().is_some_and(|allowed| !scopes.is_subset(allowed));
        let is_persons = !self.personal_keys && key.person_id.is_some();
        let rules = [(lives_longer, Rule::Life), (may_more, Rule::Scopes), (is_persons, Rule::Person)];
        rules.into_iter().filter_map(|(is_broken, rule)| is_broken.then_some(rule)).collect()
    }

    fn to_row(&self, tenant: &TenantId) -> tenant_policies::Model {
        tenant_policies::Model {
            tenant_id: tenant.to_string(),
            max_key_days: self.max_days,
            scopes: self.scopes.as_ref().map(scopes_to_column),
            personal_keys: i64::from(self.personal_keys),
            updated_at_ms: self.updated_at_ms.unwrap_or_default(),
        }
    }
}

impl NewPolicy {
    fn check(self) -> Result<Policy, RegistryError> {
        let mut findings = Vec::new();
        if let Some(days) = self.max_days.filter(|days| !(1..=MAX_DAYS).contains(days)) {
            findings
                .push(Finding::field("max_key_days", format!("1 to {MAX_DAYS}, or null for no bound; given {days}")));
        }
        if self.scopes.as_ref().is_some_and(Vec::is_empty) {
            findings.push(Finding::field("scopes", "at least one scope, or null for no bound; given none"));
        }
        let mut scopes = Scopes::new();
        for (index, text) in self.scopes.iter().flatten().enumerate() {
            match text.parse::<Scope>() {
                Ok(scope) => _ = scopes.insert(scope),
                Err(error) => findings.push(Finding::field(format!("scopes[{index}]"), error.to_string())),
            }
        }
        RegistryError::unless_valid(findings)?;
        Ok(Policy {
            max_days: self.max_days,
            scopes: self.scopes.map(|_| scopes),
            personal_keys: self.personal_keys,
            updated_at_ms: Some(now_ms()),
        })
    }
}

/// See [`Policy::expiry`]; `latest` is when the policy ends it.
fn within(
    maker: Option<i64>,
    latest: Option<i64>,
    asked: Option<i64>,
    otherwise: Option<i64>,
) -> Result<Option<i64>, RegistryError> {
    let Some(asked) = asked else { return Ok([maker, latest, otherwise].into_iter().flatten().min()) };
    if let Some(maker) = maker.filter(|maker| asked > *maker) {
        return Err(RegistryError::ExpiryNotHeld { own: moment(maker) });
    }
    if let Some(latest) = latest.filter(|latest| asked > *latest) {
        let (limit, given) = (format!("at most {}", moment(latest)), moment(asked).to_string());
        return Err(RegistryError::AgainstPolicy { field: "expires_at", limit, given });
    }
    Ok(Some(asked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_expires_as_asked_for_within_its_maker_and_the_policy_and_else_with_the_first_of_them() {
        for (maker, latest, asked, otherwise, expected) in [
            (None, None, None, None, Ok(None)),
            (None, None, Some(5), None, Ok(Some(5))),
            (Some(9), None, None, None, Ok(Some(9))),
            (Some(9), Some(7), None, None, Ok(Some(7))),
            (Some(9), Some(7), None, Some(3), Ok(Some(3))),
            (None, None, None, Some(3), Ok(Some(3))),
            (Some(9), Some(7), Some(7), Some(3), Ok(Some(7))),
            (Some(9), Some(7), Some(8), None, Err("policy")),
            (Some(9), Some(20), Some(10), None, Err("maker")),
        ] {
            let given = within(maker, latest, asked, otherwise).map_err(|error| match error {
                RegistryError::ExpiryNotHeld { .. } => "maker",
                RegistryError::AgainstPolicy { .. } => "policy",
                other => panic!("{other}"),
            });
            assert_eq!(given, expected, "{maker:?} {latest:?} {asked:?} {otherwise:?}");
        }
    }
}
