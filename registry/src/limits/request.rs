//! Limits as callers ask for them, and what is wrong with them.

use std::collections::BTreeMap;

use serde_json::Value;
use souk_protocol::limits::{Limit, Mode, Policy};

use super::settings::{MAX_CEILING, max_value};
use crate::db::limits::mode_to_column;
use crate::error::{Finding, RegistryError};

/// Most that one tenant weighs at gates.
const MAX_WEIGHT: u64 = 16;

/// A limit as a caller asks for it, unchecked: numbers are whatever stood there.
#[derive(Clone, Debug, Default)]
pub(crate) struct LimitRequest {
    pub(crate) value: Value,
    pub(crate) soft: Option<Value>,
    pub(crate) mode: Option<Value>,
}

/// Limits by the policies' names; null takes one away, and what is not in here stays.
pub(crate) type LimitsRequest = BTreeMap<String, Option<LimitRequest>>;

/// The same, checked: `None` takes one away.
pub(super) type Changes = BTreeMap<Policy, Option<Limit>>;

/// All limits that are asked for.
pub(super) fn check_limits(request: LimitsRequest) -> Result<Changes, RegistryError> {
    let (mut changes, mut findings) = (Changes::new(), Vec::new());
    for (name, limit) in request {
        let field = format!("limits.{}", shortened(&name));
        match name.parse::<Policy>() {
            Err(error) => findings.push(Finding::field(field, error.to_string())),
            Ok(policy) => match limit.map(|limit| limit.check(policy, &field)).transpose() {
                Ok(limit) => _ = changes.insert(policy, limit),
                Err(more) => findings.extend(more),
            },
        }
    }
    RegistryError::unless_valid(findings)?;
    Ok(changes)
}

/// What a tenant is to weigh at gates.
pub(super) fn check_weight(given: Option<&Value>) -> Result<Option<i64>, RegistryError> {
    let weight = given.map(|given| whole("gate_weight", given, 1..=MAX_WEIGHT)).transpose();
    Ok(weight.map_err(|finding| RegistryError::invalid(vec![finding]))?.map(|weight| weight as i64))
}

/// Most tokens of an answer; null for the installation's default.
pub(super) fn check_ceiling(given: &Value) -> Result<Option<i64>, RegistryError> {
    if given.is_null() {
        return Ok(None);
    }
    let ceiling = whole("output_ceiling", given, 1..=u64::from(MAX_CEILING));
    Ok(Some(ceiling.map_err(|finding| RegistryError::invalid(vec![finding]))? as i64))
}

impl LimitRequest {
    fn check(self, policy: Policy, field: &str) -> Result<Limit, Vec<Finding>> {
        let mut findings = Vec::new();
        let mut sound = |result: Result<u64, Finding>| result.map_err(|finding| findings.push(finding)).ok();
        let value = sound(whole(&format!("{field}.value"), &self.value, 0..=max_value(policy)));
        let soft = match self.soft.filter(|soft| !soft.is_null()) {
            Some(given) if policy.is_budget() => {
                // Beyond the limit itself nothing would be left to tell of.
                sound(whole(&format!("{field}.soft"), &given, 0..=value.unwrap_or(max_value(policy))))
            }
            Some(given) => sound(Err(Finding::field(
                format!("{field}.soft"),
                format!(
                    "only what is counted by the day or the month has one, and {policy} is a rate; given {}",
                    shown(&given)
                ),
            ))),
            None => None,
        };
        let mode = mode_of(self.mode.as_ref(), field).map_err(|finding| findings.push(finding)).ok();
        match (value, mode) {
            (Some(value), Some(mode)) if findings.is_empty() => Ok(Limit { value, soft, mode }),
            _ => Err(findings),
        }
    }
}

fn mode_of(given: Option<&Value>, field: &str) -> Result<Mode, Finding> {
    let Some(given) = given.filter(|given| !given.is_null()) else { return Ok(Mode::default()) };
    let found = [Mode::Enforce, Mode::Shadow].into_iter().find(|mode| given.as_str() == Some(mode_to_column(*mode)));
    found.ok_or_else(|| {
        Finding::field(format!("{field}.mode"), format!("`enforce` or `shadow`; given {}", shown(given)))
    })
}

/// A whole number within bounds, from 2^53 on no number of JSON is sure to be what was written.
fn whole(field: &str, given: &Value, range: std::ops::RangeInclusive<u64>) -> Result<u64, Finding> {
    given.as_u64().filter(|number| range.contains(number)).ok_or_else(|| {
        let (least, most) = (range.start(), range.end());
        Finding::field(field, format!("a whole number from {least} to {most}; given {}", shown(given)))
    })
}

fn shown(given: &Value) -> String {
    shortened(&given.to_string())
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn asked(name: &str, value: Value, soft: Option<Value>, mode: Option<Value>) -> LimitsRequest {
        [(name.to_owned(), Some(LimitRequest { value, soft, mode }))].into()
    }

    fn findings(request: LimitsRequest) -> Vec<(String, String)> {
        match check_limits(request) {
            Err(RegistryError::BadRequest { findings, .. }) => {
                findings.into_iter().map(|finding| (finding.subject, finding.message)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_wrong_number_is_told_with_its_field_the_bound_and_what_was_given() {
        for (name, value, soft, mode, subject, told) in [
            ("tokens_per_day", json!(-1), None, None, "limits.tokens_per_day.value", "0 to 999999999999999; given -1"),
            ("tokens_per_day", json!(1.5), None, None, "limits.tokens_per_day.value", "a whole number from"),
            ("tokens_per_day", json!("9"), None, None, "limits.tokens_per_day.value", "given \"9\""),
            ("tokens_per_day", json!(null), None, None, "limits.tokens_per_day.value", "given null"),
            ("tokens_per_day", json!(1e16), None, None, "limits.tokens_per_day.value", "given 1e"),
            ("tokens_per_day", json!(9), Some(json!(10)), None, "limits.tokens_per_day.soft", "0 to 9; given 10"),
            (
                "requests_per_minute",
                json!(9),
                Some(json!(1)),
                None,
                "limits.requests_per_minute.soft",
                "is a rate; given 1",
            ),
            ("tokens_per_day", json!(9), None, Some(json!("off")), "limits.tokens_per_day.mode", "given \"off\""),
            ("tokens_per_year", json!(9), None, None, "limits.tokens_per_year", "unknown limit `tokens_per_year`"),
        ] {
            let found = findings(asked(name, value, soft, mode));
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].0, subject);
            assert!(found[0].1.contains(told), "{found:?}");
        }
        let mut both = asked("tokens_per_day", json!(-1), None, Some(json!(1)));
        both.extend(asked("versions_per_day", json!(-2), None, None));
        assert_eq!(findings(both).len(), 3, "all of them at once");
    }

    #[test]
    fn what_is_sound_is_as_it_was_written_and_null_takes_away() {
        let mut request = asked("tokens_per_month", json!(0), Some(json!(null)), Some(json!("shadow")));
        request.insert("versions_per_day".to_owned(), None);
        let expected = [
            (Policy::TokensPerMonth, Some(Limit { value: 0, soft: None, mode: Mode::Shadow })),
            (Policy::VersionsPerDay, None),
        ];
        assert_eq!(check_limits(request).unwrap(), expected.into());
        assert_eq!(check_weight(None).unwrap(), None);
        assert_eq!(check_weight(Some(&json!(16))).unwrap(), Some(16));
        assert!(check_weight(Some(&json!(0))).is_err() && check_weight(Some(&json!(17))).is_err());
        assert_eq!(check_ceiling(&json!(null)).unwrap(), None);
        assert!(check_ceiling(&json!(0)).is_err());
    }

    proptest! {
        #[test]
        fn no_value_breaks_the_check_and_what_is_taken_is_within_the_bounds(
            name in "[a-z_]{0,30}|tokens_per_day|requests_per_minute",
            value in any::<i64>(), float in any::<f64>(), text in ".{0,100}", which in 0..4_u8, soft in any::<u64>(),
        ) {
            let value = match which {
                0 => json!(value),
                1 => json!(float),
                2 => json!(text),
                _ => json!([value]),
            };
            if let Ok(changes) = check_limits(asked(&name, value, Some(json!(soft)), None)) {
                for (policy, limit) in changes {
                    let limit = limit.unwrap();
                    prop_assert!(policy.is_budget() && limit.value <= max_value(policy));
                    prop_assert!(limit.soft.unwrap() <= limit.value);
                }
            }
        }
    }
}
