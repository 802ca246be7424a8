//! Limits: what somebody may use in a period. A gate holds what is given back ([`gate`](crate::gate)); a limit counts.
//!
//! A caller is bound by a tree of limits ([`LimitTree`]): its tenant's, its team's, its own as a member, its key's. Each counts
//! what all below it use together. Rates ([`Period::Minute`]) are token buckets; budgets are counted by the day and the month
//! of UTC ([`PeriodKey`]), from the rows of usage ([`Total`]), so that they cannot drift from them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use time::{Date, Month};

use crate::{CallerHooks, KeyId, PersonId, TeamId, TenantId};

/// What a limit counts, and in which period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Requests for answers.
    RequestsPerMinute,
    /// Tokens of prompts, each prompt once for all its choices.
    InputTokensPerMinute,
    /// Tokens of answers.
    OutputTokensPerMinute,
    /// Tokens of prompts and answers together, as they are charged.
    TokensPerDay,
    /// The same.
    TokensPerMonth,
    /// Tokens that training reads.
    TrainingTokensPerMonth,
    /// Versions of adapters that are published.
    VersionsPerDay,
}

/// For how long a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// A bucket that a minute fills.
    Minute,
    /// A day of UTC.
    Day,
    /// A month of UTC.
    Month,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Requests.
    Requests,
    /// Tokens of prompts.
    InputTokens,
    /// Tokens of answers.
    OutputTokens,
    /// Tokens of both.
    Tokens,
    /// Tokens that training reads.
    TrainingTokens,
    /// Versions.
    Versions,
}

/// A text that names no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown limit `{given}`; limits are {}", Policy::ALL.map(Policy::as_str).join(", "))]
pub struct UnknownPolicy {
    /// What was given, shortened.
    pub given: String,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::RequestsPerMinute,
        Self::InputTokensPerMinute,
        Self::OutputTokensPerMinute,
        Self::TokensPerDay,
        Self::TokensPerMonth,
        Self::TrainingTokensPerMonth,
        Self::VersionsPerDay,
    ];

    /// Its name in the API, in settings and in headers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestsPerMinute => "requests_per_minute",
            Self::InputTokensPerMinute => "input_tokens_per_minute",
            Self::OutputTokensPerMinute => "output_tokens_per_minute",
            Self::TokensPerDay => "tokens_per_day",
            Self::TokensPerMonth => "tokens_per_month",
            Self::TrainingTokensPerMonth => "training_tokens_per_month",
            Self::VersionsPerDay => "versions_per_day",
        }
    }

    /// In which period it counts.
    #[must_use]
    pub const fn period(self) -> Period {
        match self {
            Self::RequestsPerMinute | Self::InputTokensPerMinute | Self::OutputTokensPerMinute => Period::Minute,
            Self::TokensPerDay | Self::VersionsPerDay => Period::Day,
            Self::TokensPerMonth | Self::TrainingTokensPerMonth => Period::Month,
        }
    }

    /// What it counts.
    #[must_use]
    pub const fn unit(self) -> Unit {
        match self {
            Self::RequestsPerMinute => Unit::Requests,
            Self::InputTokensPerMinute => Unit::InputTokens,
            Self::OutputTokensPerMinute => Unit::OutputTokens,
            Self::TokensPerDay | Self::TokensPerMonth => Unit::Tokens,
            Self::TrainingTokensPerMonth => Unit::TrainingTokens,
            Self::VersionsPerDay => Unit::Versions,
        }
    }

    /// Whether it is a budget, which counts rows, and no rate.
    #[must_use]
    pub const fn is_budget(self) -> bool {
        !matches!(self.period(), Period::Minute)
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Policy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        let policy = Self::ALL.into_iter().find(|policy| policy.as_str() == text);
        policy.ok_or_else(|| UnknownPolicy { given: text.chars().take(80).collect() })
    }
}

impl Unit {
    /// Its name in rows and in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::Tokens => "tokens",
            Self::TrainingTokens => "training_tokens",
            Self::Versions => "versions",
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a limit refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// What goes beyond it is refused.
    #[default]
    Enforce,
    /// What goes beyond it is let in, counted, and told: in a header, a figure and the row of usage.
    Shadow,
}

/// A limit as somebody has set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Most that may be used in its period. 0: nothing that costs anything.
    pub value: u64,
    /// From where it is told, and nothing refused; of budgets alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft: Option<u64>,
    /// Whether it refuses.
    #[serde(default)]
    pub mode: Mode,
}

/// Whose a limit is, broadest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A tenant: what all its keys and sessions use together.
    Tenant(TenantId),
    /// A team of it.
    Team(TeamId),
    /// A member of it: what all keys and sessions of this person use for this tenant.
    Member(TenantId, PersonId),
    /// A key. A session is none: what it uses is its member's.
    Key(KeyId),
}

impl Subject {
    /// The level's name: `tenant`, `team`, `member` or `key`.
    #[must_use]
    pub const fn level(&self) -> &'static str {
        match self {
            Self::Tenant(_) => "tenant",
            Self::Team(_) => "team",
            Self::Member(..) => "member",
            Self::Key(_) => "key",
        }
    }

    /// The id below that level: a tenant's, a team's, a person's or a key's.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Tenant(tenant) => tenant.as_str(),
            Self::Team(team) => team.as_str(),
            Self::Member(_, person) => person.as_str(),
            Self::Key(key) => key.as_str(),
        }
    }
}

/// The limits of one level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelLimits {
    /// Whose they are.
    pub subject: Subject,
    /// What is limited. What is not in here is not limited at this level.
    pub limits: BTreeMap<Policy, Limit>,
}

/// All that binds a caller, broadest level first. Levels without limits are in it too, since usage counts for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitTree {
    /// The tenant's, then the team's if the caller is of one, the member's of a person, the key's. The installation's defaults
    /// stand in the tenant's where it has none of its own.
    pub levels: Vec<LevelLimits>,
    /// The tenant's weight at gates: how much of what is shared out it gets beside others, where 1 is usual.
    pub gate_weight: u32,
    /// Most tokens of one answer where the request says nothing, and at all; `None`: what the context leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_ceiling: Option<u32>,
    /// Whether whole answers to requests with an Idempotency-Key may be kept, to be given again.
    #[serde(default)]
    pub keeps_answers: bool,
    /// What acts on its requests, of its own; `None`: nothing. It is no limit, and comes along since it is asked for at the same
    /// moment and of the same rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Arc<CallerHooks>>,
}

impl LimitTree {
    /// A tree that limits nothing, for a caller who is known by its tenant and key alone.
    #[must_use]
    pub fn unlimited(tenant: &TenantId, key: &KeyId) -> Self {
        Self::without_limits([Subject::Tenant(tenant.clone()), Subject::Key(key.clone())])
    }

    /// A tree that limits nothing, with these levels.
    #[must_use]
    pub fn without_limits(subjects: impl IntoIterator<Item = Subject>) -> Self {
        let none = |subject| LevelLimits { subject, limits: BTreeMap::new() };
        Self {
            levels: subjects.into_iter().map(none).collect(),
            gate_weight: 1,
            output_ceiling: None,
            keeps_answers: false,
            hooks: None,
        }
    }

    /// The team among the levels.
    #[must_use]
    pub fn team(&self) -> Option<&TeamId> {
        self.levels.iter().find_map(|level| match &level.subject {
            Subject::Team(team) => Some(team),
            _ => None,
        })
    }

    /// Each limit with whose it is, broadest level first.
    pub fn limits(&self) -> impl Iterator<Item = (&Subject, Policy, Limit)> {
        self.levels
            .iter()
            .flat_map(|level| level.limits.iter().map(|(policy, limit)| (&level.subject, *policy, *limit)))
    }
}

/// One day or one month of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum PeriodKey {
    /// Days since the Unix epoch.
    Day(u32),
    /// Months since January of the year 0: `year * 12 + month`, where January is 0.
    Month(u32),
}

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

impl PeriodKey {
    /// The period of a policy in which a moment lies; `None` for rates.
    #[must_use]
    pub fn of(policy: Policy, at_ms: u64) -> Option<Self> {
        match policy.period() {
            Period::Minute => None,
            Period::Day => Some(Self::day(at_ms)),
            Period::Month => Some(Self::month(at_ms)),
        }
    }

    /// The day of a moment, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn day(at_ms: u64) -> Self {
        Self::Day(u32::try_from(at_ms / DAY_MS).unwrap_or(u32::MAX))
    }

    /// The month of a moment.
    #[must_use]
    pub fn month(at_ms: u64) -> Self {
        let (year, month, _) = civil(at_ms / DAY_MS);
        Self::Month(year * 12 + month - 1)
    }

    /// Its first millisecond since the Unix epoch.
    #[must_use]
    pub fn begins_at_ms(self) -> u64 {
        match self {
            Self::Day(day) => u64::from(day) * DAY_MS,
            Self::Month(month) => days_until(month / 12, month % 12 + 1) * DAY_MS,
        }
    }

    /// The first millisecond after it.
    #[must_use]
    pub fn ends_at_ms(self) -> u64 {
        match self {
            Self::Day(day) => Self::Day(day + 1),
            Self::Month(month) => Self::Month(month + 1),
        }
        .begins_at_ms()
    }
}

impl fmt::Display for PeriodKey {
    /// `2026-11-29` or `2026-11`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Day(day) => {
                let (year, month, day) = civil(u64::from(day));
                write!(f, "{year:04}-{month:02}-{day:02}")
            }
            Self::Month(month) => write!(f, "{:04}-{:02}", month / 12, month % 12 + 1),
        }
    }
}

/// A text that is neither a day nor a month.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a day, such as 2026-11-29, nor a month, such as 2026-11")]
pub struct UnknownPeriod(pub String);

impl FromStr for PeriodKey {
    type Err = UnknownPeriod;

    fn from_str(text: &str) -> Result<Self, UnknownPeriod> {
        let unknown = || UnknownPeriod(text.chars().take(40).collect());
        let parts = text.split('-').map(str::parse::<u32>).collect::<Result<Vec<_>, _>>().map_err(|_| unknown())?;
        let key = match parts[..] {
            [year @ 1970..=9999, month @ 1..=12] => Self::Month(year * 12 + month - 1),
            [year @ 1970..=9999, month @ 1..=12, day @ 1..=31] => {
                Self::Day(u32::try_from(days_until(year, month)).map_err(|_| unknown())? + day - 1)
            }
            _ => return Err(unknown()),
        };
        // No 31st of November, no sign and no space.
        if key.to_string() == text { Ok(key) } else { Err(unknown()) }
    }
}

impl From<PeriodKey> for String {
    fn from(key: PeriodKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for PeriodKey {
    type Error = UnknownPeriod;

    fn try_from(text: String) -> Result<Self, UnknownPeriod> {
        text.parse()
    }
}

/// Which sum of rows is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TotalKey {
    /// Whose.
    pub subject: Subject,
    /// Of which period.
    pub period: PeriodKey,
    /// Of what: [`Unit::Tokens`], [`Unit::TrainingTokens`] or [`Unit::Versions`].
    pub unit: Unit,
}

/// The sum of the rows of usage of somebody in a period, which is kept beside the rows in their own transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    /// Which sum.
    pub key: TotalKey,
    /// The sum.
    pub amount: u64,
    /// Counts up with each change, so that of two answers the later one is known. 0: there is no row yet.
    pub version: u64,
}

/// The Julian day number of the first day of the Unix epoch.
const EPOCH_JULIAN_DAY: i32 = 2_440_588;

/// Year, month from 1 and day from 1 of a day since the Unix epoch. Days beyond the year 9999 are its last.
fn civil(day: u64) -> (u32, u32, u32) {
    let julian = i32::try_from(day).ok().and_then(|day| day.checked_add(EPOCH_JULIAN_DAY));
    let date = julian.and_then(|day| Date::from_julian_day(day).ok()).unwrap_or(Date::MAX);
    (u32::try_from(date.year()).unwrap_or_default(), u32::from(u8::from(date.month())), u32::from(date.day()))
}

/// Days from the Unix epoch to the first of a month, which is counted from 1.
fn days_until(year: u32, month: u32) -> u64 {
    let month = u8::try_from(month).ok().and_then(|month| Month::try_from(month).ok()).unwrap_or(Month::January);
    let year = i32::try_from(year).unwrap_or(i32::MAX);
    let date = Date::from_calendar_date(year, month, 1).unwrap_or(Date::MAX);
    u64::try_from(date.to_julian_day() - EPOCH_JULIAN_DAY).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn periods_are_days_and_months_of_utc() {
        let at = 1_796_083_199_999; // 2026-11-30T23:59:59.999Z
        assert_eq!(PeriodKey::day(at).to_string(), "2026-11-30");
        assert_eq!(PeriodKey::month(at).to_string(), "2026-11");
        assert_eq!(PeriodKey::day(at).ends_at_ms(), at + 1);
        assert_eq!(PeriodKey::month(at).ends_at_ms(), at + 1);
        assert_eq!(PeriodKey::month(at + 1).to_string(), "2026-12");
        assert_eq!(PeriodKey::of(Policy::RequestsPerMinute, at), None);
        assert_eq!(PeriodKey::of(Policy::TokensPerMonth, at), Some(PeriodKey::month(at)));
        for text in
            ["2026-13", "2026-11-31", "2026-02-29", "+2026-01", "2026-1", " 2026-01", "2026", "", "2026-01-01-01"]
        {
            assert!(text.parse::<PeriodKey>().is_err(), "{text}");
        }
        assert_eq!("2028-02-29".parse::<PeriodKey>().unwrap().to_string(), "2028-02-29");
    }

    #[test]
    fn policies_and_units_are_on_the_wire_what_they_are_in_texts() {
        for policy in Policy::ALL {
            assert_eq!(serde_json::to_value(policy).unwrap(), policy.as_str());
            assert_eq!(policy.as_str().parse(), Ok(policy));
            assert_eq!(serde_json::to_value(policy.unit()).unwrap(), policy.unit().as_str());
        }
        let unknown = "tokens_per_year".parse::<Policy>().unwrap_err().to_string();
        assert!(unknown.starts_with("unknown limit `tokens_per_year`; limits are requests_per_minute, "), "{unknown}");
    }

    proptest! {
        #[test]
        fn every_moment_lies_in_its_day_and_its_month(at_ms in 0..253_402_300_800_000_u64) {
            for key in [PeriodKey::day(at_ms), PeriodKey::month(at_ms)] {
                prop_assert!(key.begins_at_ms() <= at_ms && at_ms < key.ends_at_ms());
                prop_assert_eq!(key.to_string().parse::<PeriodKey>(), Ok(key));
            }
        }

        #[test]
        fn no_text_breaks_the_reader_of_periods(text in ".{0,20}") {
            let _ = text.parse::<PeriodKey>();
        }
    }
}
