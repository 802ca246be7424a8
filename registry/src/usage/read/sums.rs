//! Sums of what was used.

use souk_protocol::{Principal, TenantId};

use super::asked::{Asked, Grain, at_most_days};
use super::names::{Names, Wanted};
use crate::Registry;
use crate::db::usage_reading::{self, Bucket, By, Filter, Group, Question, Source, Sums};
use crate::error::RegistryError;
use crate::rights::{Action, require};
use crate::slice::{Slice, wrong_cursor};

/// Most days of which rows are summed up hour by hour.
const DAYS_BY_HOUR: i64 = 31;

/// Which sums.
#[derive(Debug)]
pub(crate) struct SumsRequest {
    pub(crate) asked: Asked,
    pub(crate) bucket: Bucket,
    /// Without repetitions.
    pub(crate) by: Vec<By>,
}

/// A part of them.
#[derive(Debug)]
pub(crate) struct SumsOf {
    /// One more than was asked for, if there are more.
    pub(crate) groups: Vec<Group>,
    /// All of them together.
    pub(crate) totals: Sums,
    pub(crate) names: Names,
    pub(crate) filter: Filter,
}

impl Registry {
    /// Sums by time, and by what else is asked for; a sort key is JSON.
    pub(crate) async fn usage(
        &self,
        principal: &Principal,
        request: &SumsRequest,
        slice: &Slice,
    ) -> Result<SumsOf, RegistryError> {
        require(principal, Action::GetUsage)?;
        let SumsRequest { asked, bucket, by } = request;
        let (source, grain) = match bucket {
            Bucket::Minute | Bucket::Hour => (Source::Rows, Grain::Moments),
            Bucket::Day | Bucket::Month | Bucket::Whole => (Source::Days, Grain::Days),
        };
        let filter = self.usage_filter(principal, asked, grain).await?;
        if source == Source::Rows {
            at_most_days(&filter, DAYS_BY_HOUR, "`bucket=hour` takes")?;
        }
        let after = slice.after.as_deref().map(|key| after(key, by)).transpose()?;
        let question = Question {
            filter: &filter,
            source,
            bucket: *bucket,
            by,
            after: after.as_deref(),
            limit: Some(slice.with_one_more()),
        };
        let groups = usage_reading::sums(&self.db, &question).await?;
        let whole = Question { bucket: Bucket::Whole, by: &[], after: None, limit: None, ..question };
        let totals = usage_reading::sums(&self.db, &whole).await?;
        let totals = totals.first().map(|group| group.sums).unwrap_or_default();
        let tenant = TenantId::from_stored(&filter.tenant);
        let names = self.names_of(principal, &tenant, &wanted(&groups, by)).await?;
        Ok(SumsOf { groups, totals, names, filter })
    }
}

/// The ids that groups have.
pub(crate) fn wanted(groups: &[Group], by: &[By]) -> Wanted {
    let mut wanted = Wanted::default();
    for group in groups {
        for (by, name) in by.iter().zip(&group.names) {
            let set = match by {
                By::Key => &mut wanted.keys,
                By::Person => &mut wanted.persons,
                By::Team => &mut wanted.teams,
                By::Adapters => &mut wanted.adapters,
                By::Base | By::Outcome => continue,
            };
            set.insert(name.clone());
        }
    }
    wanted
}

/// The sort key of a group, as it was handed out.
fn after(key: &str, by: &[By]) -> Result<Vec<String>, RegistryError> {
    let key: Vec<String> = serde_json::from_str(key).map_err(|_| wrong_cursor())?;
    let is_text = key.iter().all(|text| !text.contains('\0'));
    if key.len() == by.len() + 1 && is_text { Ok(key) } else { Err(wrong_cursor()) }
}
