//! Rotation: another key with the same rights takes a key's place. For a while both work, then the old one ends by itself.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use souk_http::token::LIFETIME;
use souk_protocol::{PersonId, Principal, TeamId, wall_clock};
use time::OffsetDateTime;

use super::make::{check_scopes, models_within};
use super::policy::Policy;
use super::revoke::{Why, revoke};
use super::{NewKey, Theirs, insert_key};
use crate::Registry;
use crate::audit::{self, Act, Actor};
use crate::auth::{ApiKey, AuthError, check_usable, models_from_column, scopes_from_column};
use crate::db::{KeyRow, api_keys, begin_write, limits, ms_of, now_ms, pipelines};
use crate::error::{Finding, RegistryError};
use crate::idempotency::Once;
use crate::rights::{Action, require};

/// A rotation as a caller asks for it, unchecked.
pub(crate) struct Rotation {
    /// Seconds that both keys work; `None`: as long as the settings allow.
    pub(crate) overlap_s: Option<u64>,
    /// When the new key stops working by itself; `None`: when the old one would have, or as soon as it has to.
    pub(crate) expires_at: Option<OffsetDateTime>,
}

/// A key that took another's place.
#[derive(Clone)]
pub(crate) struct Rotated {
    pub(crate) new: KeyRow,
    pub(crate) old: String,
    /// When the old one ends.
    pub(crate) old_ends_at_ms: i64,
}

impl Registry {
    /// Makes a key with the rights of another, which ends when the overlap is over. Of two that rotate one key at once, one
    /// does. `shape` makes the answer that is kept for an `Idempotency-Key`, which has no secret.
    pub(crate) async fn rotate_key<A: Serialize>(
        &self,
        principal: &Principal,
        id: &str,
        rotation: Rotation,
        once: &Once,
        shape: impl FnOnce(Rotated) -> A,
    ) -> Result<(Rotated, ApiKey), RegistryError> {
        let theirs = Theirs::of(principal, require(principal, Action::RotateKey)?);
        let overlap = rotation.check(self.config.settings.key_overlap)?;
        let transaction = begin_write(&self.db).await?;
        let found = api_keys::lock(&transaction, id).await?.filter(|key| theirs.have(key));
        let old = found.ok_or_else(|| RegistryError::NotFound { what: "key", name: id.to_owned() })?;
        check_may_be_rotated(principal, &old)?;
        let tenant = old.tenant();
        let (scopes, person) = (scopes_from_column(&old.scopes), old.person_id.clone());
        let maker = self.authority(&transaction, principal).await?;
        check_scopes(&maker, principal, &scopes)?;
        let models = models_within(&maker, old.models.as_deref().map(models_from_column))?;
        let policy = Policy::of(&transaction, &tenant).await?;
        policy.check(&scopes, person.is_some())?;
        let asked = rotation.expires_at.map(ms_of);
        let expires_at_ms = policy.expiry(&scopes, maker.expires_at_ms, asked, old.expires_at_ms)?;
        self.check_room_for_a_key(&transaction, &tenant).await?;
        let new = NewKey {
            tenant_id: old.tenant_id.clone(),
            person: person.map(PersonId::from_stored),
            name: old.name.clone(),
            scopes,
            models,
            expires_at_ms,
            made_by: Some(maker.id),
            team: old.team_id.clone().map(TeamId::from_stored),
        };
        let (new, secret) = insert_key(&transaction, &self.authenticator, new).await?;
        // Or a rotation would be the way around them.
        limits::copy_of_key(&transaction, &tenant, &old.id, &new.id).await?;
        pipelines::copy_of_key(&transaction, &tenant, &old.id, &new.id).await?;
        let overlap_ms = i64::try_from(overlap.as_millis()).unwrap_or(i64::MAX / 2);
        let ends_at_ms = [Some(now_ms() + overlap_ms), old.expires_at_ms].into_iter().flatten().min();
        let rotated = Rotated { new, old: old.id.clone(), old_ends_at_ms: ends_at_ms.unwrap_or_default() };
        api_keys::replace(&transaction, &old.id, &rotated.new.id, rotated.old_ends_at_ms).await?;
        let mut withdrawn = Vec::new();
        if overlap.is_zero() {
            let ids = [old.id.clone()];
            withdrawn = revoke(&transaction, &self.revoker(principal), &old, &ids, Why::Rotated, json!({})).await?;
        }
        let details = json!({ "successor": rotated.new.id, "ends_at_ms": rotated.old_ends_at_ms });
        let act = Act { tenant_id: &old.tenant_id, action: "key.rotated", subject: &old.id, details };
        audit::append(&transaction, Actor::of(principal), act).await?;
        once.keep_in(&transaction, || shape(rotated.clone())).await?;
        transaction.commit().await?;
        self.withdrawals.tell(withdrawn);
        let (old, new) = (&rotated.old, &rotated.new.id);
        tracing::info!(key.id = old, key.successor = new, by.key = %principal.key, "Key {new} takes the place of key {old}");
        Ok((rotated, secret))
    }
}

/// Ends a call for a key that is over, that was rotated, or that is another person's.
fn check_may_be_rotated(principal: &Principal, key: &KeyRow) -> Result<(), RegistryError> {
    if let Some(successor) = &key.replaced_by {
        return Err(RegistryError::AlreadyRotated { key: key.id.clone(), successor: successor.clone() });
    }
    check_usable(key).map_err(|error| match error {
        AuthError::Expired => RegistryError::KeyOver { key: key.id.clone(), state: "has expired" },
        _ => RegistryError::KeyOver { key: key.id.clone(), state: "was revoked" },
    })?;
    let is_own = |person: &String| principal.person.as_ref().is_some_and(|own| own.as_str() == person);
    match &key.person_id {
        Some(person) if !is_own(person) => Err(RegistryError::OthersKey(key.id.clone())),
        _ => Ok(()),
    }
}

impl Rotation {
    /// The overlap. One that is shorter than a token's life would let tokens of the old key outlive it; without any they
    /// are revoked with it.
    fn check(&self, longest: Duration) -> Result<Duration, RegistryError> {
        let mut findings = Vec::new();
        let overlap = self.overlap_s.map_or(longest, Duration::from_secs);
        if !overlap.is_zero() && !(LIFETIME..=longest).contains(&overlap) {
            let (least, most) = (LIFETIME.as_secs(), longest.as_secs());
            let detail = format!("0, or {least} to {most} (registry.key_overlap_s); given {}", overlap.as_secs());
            findings.push(Finding::field("overlap_s", detail));
        }
        if self.expires_at.is_some_and(|moment| moment <= wall_clock::now()) {
            findings.push(Finding::field("expires_at", "a moment in the future"));
        }
        RegistryError::unless_valid(findings)?;
        Ok(overlap)
    }
}
