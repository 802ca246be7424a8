//! What a caller asks for, in the words of the API, as what the database is asked.

use souk_protocol::limits::PeriodKey;
use souk_protocol::{AdapterName, AdapterRef, Digest, Outcome, Principal, Selector, TenantId};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::Registry;
use crate::db::usage_reading::{Filter, Models};
use crate::db::{adapters, ms_of, now_ms, versions};
use crate::error::RegistryError;

pub(crate) use crate::db::usage_reading::By;

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;
/// The last second that has a day after it: the beginning of the last day of the year 9999.
const LAST_S: i64 = 253_402_214_400;
/// Longest text of a parameter.
const MAX_CHARS: usize = 200;

/// Parameters of a query, as they were given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    /// A tenant's name; `None` for the caller's own.
    pub(crate) tenant: Option<String>,
    pub(crate) from: Option<String>,
    pub(crate) to: Option<String>,
    /// Ids.
    pub(crate) key: Option<String>,
    pub(crate) member: Option<String>,
    pub(crate) team: Option<String>,
    /// `owner/name`, `owner/name@version` or a digest.
    pub(crate) adapter: Option<String>,
    /// A base model's id or digest.
    pub(crate) base: Option<String>,
    pub(crate) outcome: Option<String>,
}

/// How exactly the time is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grain {
    /// Whole days: sums of days have no parts.
    Days,
    /// As it is said.
    Moments,
}

impl Registry {
    /// Reads parameters. Whose usage it is has been looked at.
    pub(crate) async fn usage_filter(
        &self,
        principal: &Principal,
        asked: &Asked,
        grain: Grain,
    ) -> Result<Filter, RegistryError> {
        let tenant = self.tenant_meant(principal, asked.tenant.as_deref()).await?;
        let (from_ms, to_ms) = range(asked.from.as_deref(), asked.to.as_deref(), grain)?;
        let adapters = match given("adapter", asked.adapter.as_deref())? {
            Some(text) => Some(self.digests_of(&tenant, text).await?),
            None => None,
        };
        let one = |name, text| Ok::<_, RegistryError>(given(name, text)?.map(|text| vec![text.to_owned()]));
        Ok(Filter {
            tenant: tenant.to_string(),
            from_ms,
            to_ms,
            keys: one("key", asked.key.as_deref())?,
            persons: one("member", asked.member.as_deref())?,
            teams: one("team", asked.team.as_deref())?,
            bases: given("base", asked.base.as_deref())?.map(|text| vec![self.base_meant(text)]),
            adapters,
            models: None,
            outcomes: given("outcome", asked.outcome.as_deref())?.map(outcome).transpose()?,
        })
    }

    /// The digest of a base model that is named by it or by its id. What is no model has no usage.
    fn base_meant(&self, text: &str) -> String {
        let named = self.bases.iter().find(|base| base.id == text);
        named.map_or_else(|| text.to_owned(), |base| base.digest.to_string())
    }

    /// The digests of the versions that an adapter's name or reference means to a tenant. One that it may not see has none, like
    /// one that is not there.
    async fn digests_of(&self, tenant: &TenantId, text: &str) -> Result<Vec<String>, RegistryError> {
        if let Ok(digest) = text.parse::<Digest>() {
            return Ok(vec![digest.to_string()]);
        }
        let wrong = || {
            let rule = "`adapter` is owner/name, owner/name@version or a digest, sha256:…";
            RegistryError::bad_request("invalid_query", format!("{rule}; given `{text}`"))
        };
        let (name, number) = match text.parse::<AdapterRef>() {
            Ok(AdapterRef { selector: Selector::Digest(digest), .. }) => return Ok(vec![digest.to_string()]),
            Ok(AdapterRef { name, selector: Selector::Version(number) }) => (name, Some(number.to_string())),
            Ok(AdapterRef { name, selector: Selector::Latest }) => (name, None),
            // A tag named another version before.
            Ok(_) | Err(_) => return Err(wrong()),
        };
        self.digests_of_adapter(tenant, &name, number.as_deref()).await
    }

    async fn digests_of_adapter(
        &self,
        tenant: &TenantId,
        name: &AdapterName,
        number: Option<&str>,
    ) -> Result<Vec<String>, RegistryError> {
        let found = adapters::named_to(&self.db, tenant, name.owner(), name.name()).await?;
        let Some(row) = found else { return Ok(Vec::new()) };
        let versions = versions::ever_of(&self.db, &row.id, number).await?;
        Ok(versions.into_iter().map(|version| version.digest).collect())
    }

    /// What the names of models mean: base models, or versions of adapters. One that means nothing has no usage.
    pub(crate) async fn models_meant(&self, tenant: &TenantId, names: &[String]) -> Result<Models, RegistryError> {
        let mut models = Models::default();
        for name in names {
            match self.bases.iter().find(|base| base.id == *name) {
                Some(base) => models.bases.push(base.digest.to_string()),
                None => match self.digests_of(tenant, name).await {
                    Err(RegistryError::BadRequest { .. }) => {}
                    digests => models.adapters.extend(digests?),
                },
            }
        }
        Ok(models)
    }
}

/// The time that is asked for: this month up to now, where nothing else is said.
fn range(from: Option<&str>, to: Option<&str>, grain: Grain) -> Result<(i64, i64), RegistryError> {
    let to_ms = to.map(|text| moment("to", text)).transpose()?.unwrap_or_else(now_ms);
    let month_of = |at_ms: i64| PeriodKey::month(u64::try_from(at_ms).unwrap_or_default()).begins_at_ms();
    let this_month = || i64::try_from(month_of(to_ms - 1)).unwrap_or_default();
    let from_ms = from.map(|text| moment("from", text)).transpose()?.unwrap_or_else(this_month);
    if from_ms >= to_ms {
        return Err(RegistryError::bad_request("invalid_query", "`from` is not before `to`"));
    }
    Ok(match grain {
        Grain::Moments => (from_ms, to_ms),
        Grain::Days => (from_ms / DAY_MS * DAY_MS, (to_ms + DAY_MS - 1) / DAY_MS * DAY_MS),
    })
}

/// Refuses a range that is longer than rows are to be summed up over at once.
pub(crate) fn at_most_days(filter: &Filter, limit: i64, why: &str) -> Result<(), RegistryError> {
    let days = (filter.to_ms - filter.from_ms + DAY_MS - 1) / DAY_MS;
    if days <= limit {
        return Ok(());
    }
    let detail = format!("{why} at most {limit} days between `from` and `to`, given {days}");
    Err(RegistryError::bad_request("invalid_query", detail))
}

/// A day, a month or a moment, in milliseconds since the Unix epoch.
fn moment(name: &str, text: &str) -> Result<i64, RegistryError> {
    let text = checked(name, text)?;
    if let Ok(period) = text.parse::<PeriodKey>() {
        return Ok(i64::try_from(period.begins_at_ms()).unwrap_or(i64::MAX));
    }
    let is_in_reach = |moment: &OffsetDateTime| (0..=LAST_S).contains(&moment.unix_timestamp());
    OffsetDateTime::parse(text, &Rfc3339).ok().filter(is_in_reach).map(ms_of).ok_or_else(|| {
        let rule = "is a day (2026-11-29), a month (2026-11) or a moment (2026-11-29T10:00:00Z) of 1970 to 9999";
        RegistryError::bad_request("invalid_query", format!("`{name}` {rule}; given `{text}`"))
    })
}

fn outcome(text: &str) -> Result<Vec<String>, RegistryError> {
    if Outcome::ALL.iter().any(|outcome| outcome.as_str() == text) {
        return Ok(vec![text.to_owned()]);
    }
    let all = Outcome::ALL.map(Outcome::as_str).join(", ");
    Err(RegistryError::bad_request("invalid_query", format!("`outcome` is one of {all}; given `{text}`")))
}

fn given<'a>(name: &str, text: Option<&'a str>) -> Result<Option<&'a str>, RegistryError> {
    text.map(|text| checked(name, text)).transpose()
}

fn checked<'a>(name: &str, text: &'a str) -> Result<&'a str, RegistryError> {
    let num_chars = text.chars().count();
    if num_chars <= MAX_CHARS && !text.contains('\0') {
        return Ok(text);
    }
    let detail = format!("`{name}` has at most {MAX_CHARS} characters, none of them U+0000; given {num_chars}");
    Err(RegistryError::bad_request("invalid_query", detail))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(text: &str) -> i64 {
        moment("from", text).unwrap()
    }

    #[test]
    fn a_range_is_of_moments_or_of_the_whole_days_around_them() {
        let asked = |grain| range(Some("2026-11-15T10:00:00Z"), Some("2026-11-16T00:00:01+00:00"), grain).unwrap();
        assert_eq!(asked(Grain::Moments), (ms("2026-11-15T10:00:00Z"), ms("2026-11-16") + 1000));
        assert_eq!(asked(Grain::Days), (ms("2026-11-15"), ms("2026-11-17")));
        assert_eq!(range(Some("2026-11"), Some("2026-12"), Grain::Days).unwrap(), (ms("2026-11-01"), ms("2026-12-01")));
        assert_eq!(range(None, Some("2026-12"), Grain::Days).unwrap(), (ms("2026-11-01"), ms("2026-12-01")));
        assert!(range(Some("2026-12"), Some("2026-12"), Grain::Days).is_err());
        assert!(moment("from", "1969-12-31T23:59:59Z").is_err());
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader_of_moments(text in ".{0,30}", year in 1960..9999_u32, rest in "[-0-9TZ:.+]{0,20}") {
            let _ = range(Some(&text), Some(&format!("{year}{rest}")), Grain::Days);
        }
    }
}
