//! Sums as OpenAI's API for organizations tells them: a bucket for each minute, hour or day, also where nothing was used.
//!
//! A project is a team, a user a member. Tokens are those that are charged.

use souk_protocol::{Principal, TenantId};

use super::names::{Names, digests};
use super::sums::wanted;
use crate::Registry;
use crate::db::usage_reading::{self, Bucket, By, Filter, Group, Question, Source};
use crate::error::RegistryError;
use crate::rights::{Action, require};

/// Most results of one page, all buckets together.
const MAX_RESULTS: u64 = 10_000;

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct CompletionsRequest {
    /// When the first bucket begins, in seconds since the Unix epoch; a multiple of the width.
    pub(crate) start_s: i64,
    /// When the last one ends at the latest.
    pub(crate) end_s: i64,
    pub(crate) bucket: Bucket,
    /// Seconds of a bucket.
    pub(crate) width_s: i64,
    /// Most buckets.
    pub(crate) limit: i64,
    pub(crate) projects: Option<Vec<String>>,
    pub(crate) users: Option<Vec<String>>,
    pub(crate) keys: Option<Vec<String>>,
    pub(crate) models: Option<Vec<String>>,
    pub(crate) by: Vec<By>,
}

/// One bucket.
#[derive(Debug)]
pub(crate) struct CompletionBucket {
    pub(crate) start_s: i64,
    pub(crate) end_s: i64,
    pub(crate) results: Vec<CompletionResult>,
}

/// What was used in it, by what it is taken apart by.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CompletionResult {
    pub(crate) group: Group,
    /// A base model's id, or the adapters that acted.
    pub(crate) model: Option<String>,
}

impl Registry {
    /// The buckets of a page, in their order, and where the next page begins.
    pub(crate) async fn completions(
        &self,
        principal: &Principal,
        request: &CompletionsRequest,
    ) -> Result<(Vec<CompletionBucket>, Option<i64>), RegistryError> {
        require(principal, Action::GetUsage)?;
        let CompletionsRequest { start_s, end_s, width_s, limit, by, .. } = request;
        let last_s = start_s.saturating_add(limit.saturating_mul(*width_s));
        let is_more = last_s < *end_s;
        let to_s = last_s.min(*end_s);
        let models = match &request.models {
            Some(names) => Some(self.models_meant(&principal.tenant, names).await?),
            None => None,
        };
        let (source, to_ms) = match request.bucket {
            // Whole days, as they are kept.
            Bucket::Day => (Source::Days, (to_s + width_s - 1) / width_s * width_s * 1000),
            _ => (Source::Rows, to_s * 1000),
        };
        let filter = Filter {
            tenant: principal.tenant.to_string(),
            from_ms: start_s * 1000,
            to_ms,
            keys: request.keys.clone(),
            persons: request.users.clone(),
            teams: request.projects.clone(),
            models,
            ..Filter::default()
        };
        let limit = Some(MAX_RESULTS + 1);
        let question = Question { filter: &filter, source, bucket: request.bucket, by, after: None, limit };
        let groups = usage_reading::sums(&self.db, &question).await?;
        if groups.len() as u64 > MAX_RESULTS {
            let detail = format!("a page has at most {MAX_RESULTS} results; ask for fewer buckets or group by less");
            return Err(RegistryError::bad_request("invalid_query", detail));
        }
        let tenant = TenantId::from_stored(&filter.tenant);
        let names = self.names_of(principal, &tenant, &wanted(&groups, by)).await?;
        let buckets = buckets(request, to_s, groups, &names);
        Ok((buckets, is_more.then_some(last_s)))
    }
}

/// Puts groups into the buckets between the beginning and `to_s`.
fn buckets(request: &CompletionsRequest, to_s: i64, groups: Vec<Group>, names: &Names) -> Vec<CompletionBucket> {
    let CompletionsRequest { start_s, width_s, .. } = request;
    let bucket = |start_s: i64| CompletionBucket { start_s, end_s: start_s + width_s, results: Vec::new() };
    let num = (to_s - start_s + width_s - 1) / width_s;
    let mut buckets: Vec<_> = (0..num).map(|number| bucket(start_s + number * width_s)).collect();
    for group in groups {
        let at = (begins_at_s(&group) - start_s) / width_s;
        let model = model_of(&group, &request.by, names);
        if let Some(bucket) = usize::try_from(at).ok().and_then(|at| buckets.get_mut(at)) {
            bucket.results.push(CompletionResult { group, model });
        }
    }
    buckets
}

fn begins_at_s(group: &Group) -> i64 {
    let day = group.bucket.parse::<souk_protocol::limits::PeriodKey>();
    let ms = day.map_or_else(
        |_| group.bucket.parse().unwrap_or_default(),
        |day| i64::try_from(day.begins_at_ms()).unwrap_or(i64::MAX),
    );
    ms / 1000
}

fn model_of(group: &Group, by: &[By], names: &Names) -> Option<String> {
    let of = |wanted: By| group.names.get(by.iter().position(|by| *by == wanted)?);
    let (base, adapters) = (of(By::Base)?, digests(of(By::Adapters)?));
    if adapters.is_empty() {
        return Some(names.bases.get(base).unwrap_or(base).clone());
    }
    let named: Vec<_> = adapters.iter().map(|digest| names.adapter(digest)).collect();
    Some(named.join("+"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::db::usage_reading::Sums;

    proptest! {
        #[test]
        fn every_group_is_in_the_bucket_of_its_time_and_buckets_follow_each_other(
            start in 0..100_i64, num in 1..40_i64, at in prop::collection::vec(0..40_i64, 0..20), cut in 0..3600_i64,
        ) {
            let (width_s, limit) = (3600, num);
            let request = CompletionsRequest {
                start_s: start * width_s, end_s: i64::MAX, bucket: Bucket::Hour, width_s, limit,
                projects: None, users: None, keys: None, models: None, by: Vec::new(),
            };
            let to_s = (start + num) * width_s - cut;
            let group = |at: &i64| Group {
                bucket: ((start + at % num) * width_s * 1000).to_string(), names: Vec::new(), sums: Sums::default(),
            };
            let groups: Vec<_> = at.iter().map(group).collect();
            let found = buckets(&request, to_s, groups, &Names::default());
            prop_assert_eq!(found.len() as i64, num);
            prop_assert_eq!(found.iter().map(|bucket| bucket.results.len()).sum::<usize>(), at.len());
            for (number, bucket) in (0..).zip(&found) {
                prop_assert_eq!((bucket.start_s, bucket.end_s), ((start + number) * width_s, (start + number + 1) * width_s));
                for result in &bucket.results {
                    prop_assert_eq!(begins_at_s(&result.group), bucket.start_s);
                }
            }
        }
    }
}
