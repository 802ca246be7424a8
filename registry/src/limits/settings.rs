//! What tenants may use that have no limits of their own: the section `[limits]` of the settings.

use serde::Deserialize;
use souk_protocol::limits::{Limit, Mode, Policy};
use souk_protocol::settings::{self, Checks};

/// Largest budget: what every program that adds such numbers up counts exactly, the store of reservations among them.
const MAX_BUDGET: u64 = 999_999_999_999_999;
/// Largest rate, for the same reason: of rates the store counts parts.
const MAX_RATE: u64 = 100_000_000_000;
/// Most tokens of an answer that a ceiling may allow.
pub(crate) const MAX_CEILING: u32 = 10_000_000;

/// The section `[limits]` of the settings. 0: no limit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSettings {
    /// See [`Policy::RequestsPerMinute`].
    pub requests_per_minute: u64,
    /// See [`Policy::InputTokensPerMinute`].
    pub input_tokens_per_minute: u64,
    /// See [`Policy::OutputTokensPerMinute`].
    pub output_tokens_per_minute: u64,
    /// See [`Policy::TokensPerDay`].
    pub tokens_per_day: u64,
    /// See [`Policy::TokensPerMonth`].
    pub tokens_per_month: u64,
    /// See [`Policy::TrainingTokensPerMonth`].
    pub training_tokens_per_month: u64,
    /// See [`Policy::VersionsPerDay`].
    pub versions_per_day: u64,
    /// Most tokens of one answer; 0: what the context leaves.
    pub output_ceiling: u32,
}

/// Largest limit of a policy.
pub(crate) const fn max_value(policy: Policy) -> u64 {
    if policy.is_budget() { MAX_BUDGET } else { MAX_RATE }
}

impl Default for LimitSettings {
    fn default() -> Self {
        settings::defaults("limits")
    }
}

impl LimitSettings {
    /// Says which of them cannot be used.
    pub fn check(&self, checks: &mut Checks) {
        for policy in Policy::ALL {
            checks.within(&format!("limits.{policy}"), self.value(policy), 0..=max_value(policy));
        }
        checks.within("limits.output_ceiling", self.output_ceiling, 0..=MAX_CEILING);
    }

    /// What a tenant may use of one thing that has no limit of its own; `None`: as much as it likes.
    pub(crate) fn limit(&self, policy: Policy) -> Option<Limit> {
        let value = Some(self.value(policy)).filter(|value| *value > 0)?;
        Some(Limit { value, soft: None, mode: Mode::Enforce })
    }

    /// Most tokens of one answer; `None`: what the context leaves.
    pub(crate) fn ceiling(&self) -> Option<u32> {
        Some(self.output_ceiling).filter(|ceiling| *ceiling > 0)
    }

    const fn value(&self, policy: Policy) -> u64 {
        match policy {
            Policy::RequestsPerMinute => self.requests_per_minute,
            Policy::InputTokensPerMinute => self.input_tokens_per_minute,
            Policy::OutputTokensPerMinute => self.output_tokens_per_minute,
            Policy::TokensPerDay => self.tokens_per_day,
            Policy::TokensPerMonth => self.tokens_per_month,
            Policy::TrainingTokensPerMonth => self.training_tokens_per_month,
            Policy::VersionsPerDay => self.versions_per_day,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_page_and_limit_nothing() {
        let settings = LimitSettings::default();
        let mut checks = Checks::default();
        settings.check(&mut checks);
        checks.finish().unwrap();
        assert!(Policy::ALL.into_iter().all(|policy| settings.limit(policy).is_none()));
        assert_eq!(settings.ceiling(), None);
    }

    #[test]
    fn what_is_out_of_range_is_told_with_key_limit_and_value() {
        let settings = LimitSettings {
            tokens_per_day: MAX_BUDGET + 1,
            requests_per_minute: MAX_RATE + 1,
            versions_per_day: MAX_BUDGET,
            output_ceiling: MAX_CEILING + 1,
            ..LimitSettings::default()
        };
        let mut checks = Checks::default();
        settings.check(&mut checks);
        let text = checks.finish().unwrap_err().to_string();
        assert!(
            text.contains("limits.tokens_per_day must be at most 999999999999999; given 1000000000000000"),
            "{text}"
        );
        assert!(text.contains("limits.requests_per_minute must be at most 100000000000; given 100000000001"), "{text}");
        assert!(text.contains("limits.output_ceiling must be at most 10000000; given 10000001"), "{text}");
        assert!(!text.contains("versions_per_day"), "{text}");
    }
}
