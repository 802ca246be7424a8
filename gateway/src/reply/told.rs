//! What an answer says of its caller's limits: the headers of OpenAI, and those of the IETF's draft.
//!
//! ```text
//! x-ratelimit-limit-tokens: 60000
//! x-ratelimit-remaining-tokens: 59100
//! x-ratelimit-reset-tokens: 1s
//! ratelimit-policy: "tenant.requests_per_minute";q=60;w=60, "tenant.tokens_per_day";q=1000000;qu="tokens";w=86400
//! ratelimit: "tenant.requests_per_minute";r=59;t=1, "tenant.tokens_per_day";r=900100;t=35301
//! x-souk-limits-shadowed: "key.tokens_per_day"
//! ```

use std::fmt::{Display, Write as _, from_fn};
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use souk_limits::{Reserved, Standing, Violation};
use souk_protocol::{Period, Policy, Subject, Unit};

/// Headers of one kind: what is limited, what is left, when all is there again.
const REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
const TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];
const REQUEST_UNITS: &[Unit] = &[Unit::Requests];
const TOKEN_UNITS: &[Unit] = &[Unit::InputTokens, Unit::OutputTokens, Unit::Tokens];
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const SHADOWED: HeaderName = HeaderName::from_static("x-souk-limits-shadowed");
/// About as long as what is said of one limit in a list.
const ITEM_BYTES: usize = 64;

/// What limits said of a request. Empty until they were asked, and where nothing limits its caller.
#[derive(Debug, Default)]
pub(crate) struct Told {
    standings: Vec<Standing>,
    shadowed: Vec<(Subject, Policy)>,
}

impl Told {
    /// The request was let in, by all that was asked of it until now.
    pub(crate) fn reserved(&mut self, reserved: Reserved) {
        self.standings = reserved.standings;
        self.shadowed.extend(reserved.shadowed.into_iter().map(|shadowed| (shadowed.subject, shadowed.policy)));
    }

    /// It was not.
    pub(crate) fn refused(&mut self, violations: &[Violation]) {
        let standing = |violation: &Violation| Standing {
            subject: violation.subject.clone(),
            policy: violation.policy,
            limit: violation.limit,
            remaining: violation.limit.saturating_sub(violation.used.saturating_add(violation.held)),
            // Not the moment of the whole limit, and never earlier than Retry-After.
            resets_in: violation.retry_after.unwrap_or(Duration::ZERO),
        };
        self.standings = violations.iter().map(standing).collect();
    }

    /// Puts it onto the answer.
    pub(crate) fn show(self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        let mut show = |name: HeaderName, value: String| {
            let value = HeaderValue::try_from(value).expect("names of policies, levels and numbers");
            headers.insert(name, value);
        };
        for (names, units) in [(REQUESTS, REQUEST_UNITS), (TOKENS, TOKEN_UNITS)] {
            let of_kind = self.standings.iter().filter(|standing| units.contains(&standing.policy.unit()));
            if let Some(tightest) = of_kind.min_by_key(|standing| standing.remaining) {
                let [limit, remaining, reset] = names;
                show(limit, tightest.limit.to_string());
                show(remaining, tightest.remaining.to_string());
                show(reset, duration(tightest.resets_in));
            }
        }
        if !self.standings.is_empty() {
            show(RATELIMIT_POLICY, list(&self.standings, policy));
            show(RATELIMIT, list(&self.standings, state));
        }
        if !self.shadowed.is_empty() {
            show(SHADOWED, list(&self.shadowed, |(subject, policy)| name(subject, *policy)));
        }
        response
    }
}

fn list<T, D: Display>(items: &[T], item: impl Fn(&T) -> D) -> String {
    let mut list = String::with_capacity(ITEM_BYTES * items.len());
    for (place, one) in items.iter().enumerate() {
        let between = if place > 0 { ", " } else { "" };
        write!(list, "{between}{}", item(one)).expect("a text takes what is written");
    }
    list
}

/// A policy's name: its level's and its own.
fn name(subject: &Subject, policy: Policy) -> impl Display + use<> {
    let level = subject.level();
    from_fn(move |f| write!(f, "\"{level}.{policy}\""))
}

fn policy(standing: &Standing) -> impl Display + use<> {
    // Of the units that are registered, requests are the one that goes without saying.
    let unit = match standing.policy.unit() {
        Unit::Requests => "",
        Unit::InputTokens | Unit::OutputTokens | Unit::Tokens => ";qu=\"tokens\"",
        Unit::TrainingTokens => ";qu=\"training-tokens\"",
        Unit::Versions => ";qu=\"versions\"",
    };
    let window = match standing.policy.period() {
        Period::Minute => 60,
        Period::Day => 86_400,
        // The longest: a month has no number of seconds.
        Period::Month => 31 * 86_400,
    };
    let (name, limit) = (name(&standing.subject, standing.policy), standing.limit);
    from_fn(move |f| write!(f, "{name};q={limit}{unit};w={window}"))
}

fn state(standing: &Standing) -> impl Display + use<> {
    let (name, remaining) = (name(&standing.subject, standing.policy), standing.remaining);
    let seconds = whole_seconds(standing.resets_in);
    from_fn(move |f| write!(f, "{name};r={remaining};t={seconds}"))
}

/// Whole seconds, rounded up: who comes early is only refused again.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// As OpenAI writes it: `12ms`, `1s`, `6m0s`, `26h3m0s`; rounded up.
fn duration(time: Duration) -> String {
    let milliseconds = time.as_nanos().div_ceil(1_000_000);
    if milliseconds < 1000 {
        return format!("{milliseconds}ms");
    }
    let seconds = whole_seconds(time);
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use souk_protocol::{KeyId, TenantId};

    use super::*;

    fn standing(subject: Subject, policy: Policy, remaining: u64, resets_in: Duration) -> Standing {
        Standing { subject, policy, limit: 100, remaining, resets_in }
    }

    #[test]
    fn times_are_written_as_openai_does_and_rounded_up() {
        let written =
            [0, 1, 11_000_001, 999_000_001, 1_000_000_000, 59_100_000_000, 360_000_000_000, 93_780_000_000_000]
                .map(|nanos| duration(Duration::from_nanos(nanos)));
        assert_eq!(written, ["0ms", "1ms", "12ms", "1s", "1s", "1m0s", "6m0s", "26h3m0s"]);
    }

    #[test]
    fn the_tightest_limit_of_tokens_is_shown_and_all_are_listed() {
        let (tenant, key) = (TenantId::from_stored("ten_1"), KeyId::from_stored("key_1"));
        let standings = vec![
            standing(Subject::Tenant(tenant.clone()), Policy::RequestsPerMinute, 59, Duration::from_millis(600)),
            standing(Subject::Tenant(tenant), Policy::TokensPerDay, 80, Duration::from_secs(35_301)),
            standing(Subject::Key(key.clone()), Policy::OutputTokensPerMinute, 7, Duration::from_secs(56)),
        ];
        let mut told = Told::default();
        told.reserved(Reserved {
            standings,
            shadowed: vec![Violation {
                subject: Subject::Key(key),
                policy: Policy::TokensPerMonth,
                limit: 1,
                used: 1,
                held: 0,
                asked: 1,
                retry_after: None,
            }],
            unknown: Vec::new(),
        });
        let response = told.show(Response::default());
        let header = |name: &str| response.headers()[name].to_str().unwrap();
        assert_eq!(header("x-ratelimit-remaining-requests"), "59");
        assert_eq!(header("x-ratelimit-reset-requests"), "600ms");
        assert_eq!((header("x-ratelimit-limit-tokens"), header("x-ratelimit-remaining-tokens")), ("100", "7"));
        assert_eq!(header("x-ratelimit-reset-tokens"), "56s");
        assert_eq!(
            header("ratelimit-policy"),
            "\"tenant.requests_per_minute\";q=100;w=60, \"tenant.tokens_per_day\";q=100;qu=\"tokens\";w=86400, \
             \"key.output_tokens_per_minute\";q=100;qu=\"tokens\";w=60"
        );
        assert_eq!(
            header("ratelimit"),
            "\"tenant.requests_per_minute\";r=59;t=1, \"tenant.tokens_per_day\";r=80;t=35301, \
             \"key.output_tokens_per_minute\";r=7;t=56"
        );
        assert_eq!(header("x-souk-limits-shadowed"), "\"key.tokens_per_month\"");
    }

    #[test]
    fn who_is_not_limited_is_told_nothing() {
        assert!(Told::default().show(Response::default()).headers().is_empty());
    }
}
