//! Requests, each with its jobs, what they were charged, and by which rule.

use souk_protocol::hooks::HookUse;
use souk_protocol::{Outcome, Principal, TenantId};

use super::asked::{Asked, Grain};
use super::names::{Names, Wanted};
use crate::Registry;
use crate::db::usage_reading::{self, Filter, Place};
use crate::db::{UsageJobRow, UsageRequestRow, usage_jobs, usage_requests};
use crate::error::RegistryError;
use crate::rights::{Action, require};
use crate::slice::{Slice, wrong_cursor};

/// A request with its jobs.
#[derive(Debug)]
pub(crate) struct UsedRequest {
    pub(crate) row: UsageRequestRow,
    pub(crate) jobs: Vec<UsageJobRow>,
}

impl UsedRequest {
    /// By what lists of requests are ordered.
    pub(crate) fn key(&self) -> String {
        format!("{} {}", self.row.admitted_at_ms, self.row.id)
    }
}

impl Registry {
    /// Requests that are kept, the newest first.
    pub(crate) async fn used_requests(
        &self,
        principal: &Principal,
        asked: &Asked,
        slice: &Slice,
    ) -> Result<(Vec<UsedRequest>, Names), RegistryError> {
        require(principal, Action::ListUsageRequests)?;
        let filter = self.usage_filter(principal, asked, Grain::Moments).await?;
        let after = slice.after.as_deref().map(place).transpose()?;
        let rows = usage_reading::requests(&self.db, &filter, true, after, slice.with_one_more()).await?;
        self.with_jobs(principal, &TenantId::from_stored(&filter.tenant), rows).await
    }

    /// One request of the caller's tenant, or for an operator of the one named.
    pub(crate) async fn used_request(
        &self,
        principal: &Principal,
        tenant: Option<&str>,
        id: &str,
    ) -> Result<(UsedRequest, Names), RegistryError> {
        require(principal, Action::GetUsageRequest)?;
        let tenant = self.tenant_meant(principal, tenant).await?;
        let not_found = || RegistryError::NotFound { what: "request", name: id.chars().take(80).collect() };
        let row = usage_requests::get(&self.db, &tenant, id).await?.ok_or_else(not_found)?;
        let (mut found, names) = self.with_jobs(principal, &tenant, vec![row]).await?;
        Ok((found.pop().ok_or_else(not_found)?, names))
    }

    /// The next requests of an export, the oldest first.
    pub(super) async fn exported_requests(
        &self,
        principal: &Principal,
        filter: &Filter,
        after: Option<Place>,
        limit: u64,
    ) -> Result<(Vec<UsedRequest>, Names), RegistryError> {
        let rows = usage_reading::requests(&self.db, filter, false, after, limit).await?;
        self.with_jobs(principal, &TenantId::from_stored(&filter.tenant), rows).await
    }

    async fn with_jobs(
        &self,
        principal: &Principal,
        tenant: &TenantId,
        rows: Vec<UsageRequestRow>,
    ) -> Result<(Vec<UsedRequest>, Names), RegistryError> {
        let ids: Vec<_> = rows.iter().map(|row| row.id.as_str()).collect();
        let jobs = usage_jobs::of(&self.db, &ids).await?;
        let mut wanted = Wanted::default();
        for row in &rows {
            wanted.keys.insert(row.key_id.clone());
            wanted.persons.extend(row.person_id.clone());
            wanted.teams.extend(row.team_id.clone());
            wanted.hooks.extend(hooks_of(row).into_iter().map(|used| used.version.to_string()));
        }
        wanted.adapters.extend(jobs.iter().map(|job| job.adapters.clone()));
        let names = self.names_of(principal, tenant, &wanted).await?;
        let mut of_requests = std::collections::HashMap::<String, Vec<UsageJobRow>>::new();
        for job in jobs {
            of_requests.entry(job.request_id.clone()).or_default().push(job);
        }
        let with = |row: UsageRequestRow| {
            let jobs = of_requests.remove(&row.id).unwrap_or_default();
            UsedRequest { row, jobs }
        };
        Ok((rows.into_iter().map(with).collect(), names))
    }
}

/// What hooks did in a request.
pub(crate) fn hooks_of(row: &UsageRequestRow) -> Vec<HookUse> {
    row.hooks.as_deref().and_then(|hooks| serde_json::from_str(hooks).ok()).unwrap_or_default()
}

/// Which rule of [`Outcome::charge`] decided what a job was charged.
pub(crate) fn rule_of(job: &UsageJobRow) -> String {
    let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == job.outcome);
    let is_charged = job.charged_input_tokens > 0 || job.charged_output_tokens > 0;
    let rule = match outcome {
        Some(Outcome::Stop | Outcome::Length) => "the answer came to its end: prompt and delivered tokens are charged",
        Some(Outcome::CallerLeft) if is_charged => {
            "the caller left after the model had begun to read: the prompt and what was delivered until then are charged"
        }
        Some(Outcome::CallerLeft) => "the caller left before the model had begun to read: free",
        Some(Outcome::Deadline | Outcome::TakenDown | Outcome::KeyRevoked | Outcome::Drained | Outcome::DeadEnd)
            if job.delivered_tokens > 0 =>
        {
            "it was ended in mid-answer: the prompt and what was delivered until then are charged"
        }
        Some(Outcome::Deadline | Outcome::TakenDown | Outcome::KeyRevoked | Outcome::Drained | Outcome::DeadEnd) => {
            "it was ended before the first token: free"
        }
        Some(Outcome::OwnHook) if is_charged => {
            "a hook of the caller failed or refused the answer: the prompt and what was computed are charged"
        }
        Some(Outcome::OwnHook) => "a hook of the caller failed or refused before the model had begun to read: free",
        Some(Outcome::PublisherHook) => "a hook of the adapter's publisher failed or refused: free",
        Some(Outcome::HookAnswered) => "a hook answered in the model's place: free",
        Some(Outcome::TimedOut) => "the deadline passed before the first token: free",
        Some(Outcome::Failed | Outcome::Broken) => "an error of ours: free",
        Some(Outcome::Refused) => "refused before the model had begun: free",
        None => "an outcome of a later version of the program",
    };
    if is_charged && job.charged_input_tokens == 0 {
        return format!("{rule}; the prompt counts in another job of the request");
    }
    rule.to_owned()
}

/// Where a list goes on.
fn place(key: &str) -> Result<Place, RegistryError> {
    let (at_ms, id) = key.split_once(' ').ok_or_else(wrong_cursor)?;
    let is_text = !id.contains('\0');
    let at_ms = at_ms.parse().ok().filter(|_| is_text).ok_or_else(wrong_cursor)?;
    Ok((at_ms, id.to_owned()))
}
