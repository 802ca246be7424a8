//! Versions per day, counted in the transaction that makes a version visible: what is rejected or undone counts nothing, and of
//! two that race for the last place one has it, since the transaction excludes all others of the tenant.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DatabaseTransaction};
use souk_protocol::limits::{LevelLimits, Mode, PeriodKey, Policy, Subject};
use souk_protocol::{Principal, TotalKey};

use super::lookup::levels_of;
use super::tree::levels_of_caller;
use crate::Registry;
use crate::auth::AuthError;
use crate::db::{moment, now_ms};
use crate::error::RegistryError;
use crate::metrics;
use crate::usage;

const POLICY: Policy = Policy::VersionsPerDay;

/// What is published today at each level of somebody.
struct Today {
    day: PeriodKey,
    now_ms: u64,
    levels: Vec<LevelLimits>,
    published: HashMap<Subject, u64>,
}

impl Registry {
    /// Ends a call of who cannot publish one version more today, before anything is sent. Nothing is counted.
    pub(crate) async fn check_versions_today(
        &self,
        connection: &impl ConnectionTrait,
        principal: &Principal,
    ) -> Result<(), RegistryError> {
        self.versions_today(connection, principal).await?.one_more().map(|_| ())
    }

    /// Counts a version, in the transaction that makes it visible, at all levels of who publishes it, and tells which thresholds
    /// are passed by it. Answers the levels whose limit in shadow mode would have refused it.
    pub(crate) async fn count_version(
        &self,
        transaction: &DatabaseTransaction,
        principal: &Principal,
    ) -> Result<Vec<&'static str>, RegistryError> {
        let today = self.versions_today(transaction, principal).await?;
        let shadowed = today.one_more()?;
        for level in &shadowed {
            metrics::limit_reached(POLICY, level, Mode::Shadow);
        }
        let keys: Vec<_> = today.levels.iter().map(|level| today.key_of(&level.subject)).collect();
        usage::move_totals(transaction, &self.config.limits, &principal.tenant, &keys, 1).await?;
        Ok(shadowed)
    }

    async fn versions_today(
        &self,
        connection: &impl ConnectionTrait,
        principal: &Principal,
    ) -> Result<Today, RegistryError> {
        let levels = levels_of_caller(connection, principal).await?.ok_or(AuthError::Revoked)?;
        let levels = levels_of(connection, &self.config.limits, &levels).await?;
        let now_ms = u64::try_from(now_ms()).unwrap_or_default();
        let mut today = Today { day: PeriodKey::day(now_ms), now_ms, levels, published: HashMap::new() };
        let keys: Vec<_> = today.levels.iter().map(|level| today.key_of(&level.subject)).collect();
        let totals = usage::totals_in(connection, &keys).await?;
        today.published = totals.into_iter().map(|total| (total.key.subject, total.amount)).collect();
        Ok(today)
    }
}

impl Today {
    fn key_of(&self, subject: &Subject) -> TotalKey {
        TotalKey { subject: subject.clone(), period: self.day, unit: POLICY.unit() }
    }

    /// Whether one more is within all limits; the levels of limits in shadow mode that it is not within. The broadest limit that it is
    /// not within is told.
    fn one_more(&self) -> Result<Vec<&'static str>, RegistryError> {
        let mut shadowed = Vec::new();
        for LevelLimits { subject, limits } in &self.levels {
            let used = self.published.get(subject).copied().unwrap_or_default();
            let Some(limit) = limits.get(&POLICY).filter(|limit| used >= limit.value) else { continue };
            if limit.mode == Mode::Shadow {
                shadowed.push(subject.level());
                continue;
            }
            metrics::limit_reached(POLICY, subject.level(), Mode::Enforce);
            let ends_at_ms = self.day.ends_at_ms();
            return Err(RegistryError::LimitReached {
                policy: POLICY,
                level: subject.level(),
                limit: limit.value,
                used,
                again_at: moment(i64::try_from(ends_at_ms).unwrap_or(i64::MAX)),
                // Never a moment too early.
                retry_after_s: ends_at_ms.saturating_sub(self.now_ms).div_ceil(1000).max(1),
            });
        }
        Ok(shadowed)
    }
}

#[cfg(test)]
mod tests {
    use souk_protocol::limits::Limit;
    use souk_protocol::{KeyId, TenantId};

    use super::*;

    /// A tenant and a key of it with limits, and what was published of each.
    fn today(limits: [Option<(u64, Mode)>; 2], published: [u64; 2]) -> Today {
        let subjects = [Subject::Tenant(TenantId::from_stored("ten_1")), Subject::Key(KeyId::from_stored("k"))];
        let limit = |(value, mode)| (POLICY, Limit { value, soft: None, mode });
        let levels = subjects.iter().zip(limits);
        let levels = levels.map(|(subject, own)| LevelLimits {
            subject: subject.clone(),
            limits: own.into_iter().map(limit).collect(),
        });
        // A quarter of a second before midnight.
        let now_ms = 1_796_083_199_750;
        let levels = levels.collect();
        Today { day: PeriodKey::day(now_ms), now_ms, levels, published: subjects.into_iter().zip(published).collect() }
    }

    #[test]
    fn the_broadest_level_that_has_no_more_is_told_with_its_numbers_and_the_days_end() {
        let enforced = |value| Some((value, Mode::Enforce));
        assert_eq!(today([enforced(2), enforced(1)], [1, 0]).one_more().unwrap(), Vec::<&str>::new());
        let Err(RegistryError::LimitReached { level, limit, used, again_at, retry_after_s, .. }) =
            today([enforced(2), enforced(1)], [3, 1]).one_more()
        else {
            panic!("both have no more")
        };
        assert_eq!(
            (level, limit, used, retry_after_s),
            ("tenant", 2, 3, 1),
            "a limit that was lowered counts what was before"
        );
        assert_eq!(again_at.unix_timestamp(), 1_796_083_200);
        assert!(matches!(
            today([None, enforced(0)], [9, 0]).one_more(),
            Err(RegistryError::LimitReached { level: "key", limit: 0, .. })
        ));
    }

    #[test]
    fn a_limit_in_shadow_mode_refuses_nothing_and_another_below_it_does() {
        let shadow = Some((1, Mode::Shadow));
        assert_eq!(today([shadow, shadow], [1, 1]).one_more().unwrap(), ["tenant", "key"]);
        let refused = today([shadow, Some((1, Mode::Enforce))], [1, 1]).one_more();
        assert!(matches!(refused, Err(RegistryError::LimitReached { level: "key", .. })));
    }
}
