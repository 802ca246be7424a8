//! What one job used, how it ended, and what of it counts.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::hooks::HookUse;
use crate::ids::{JobId, KeyId, PersonId, PoolId, RequestId, TeamId, TenantId};
use crate::limits::{Policy, Subject};

/// Exact counts of one job, as its node computed them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Prompt tokens whose KV was reused.
    pub cached_tokens: u32,
    /// Tokens of the answer that were computed, the ending token included. What a lost attempt delivered counts, and
    /// counts once; rejected drafts and what was computed again do not.
    pub completion_tokens: u32,
    /// Whether the model began to read the prompt.
    pub prefill_began: bool,
}

/// How a job ended, in words that decide what is charged: each is one row of [`Outcome::charge`]'s table.
///
/// That a node was lost and another went on is no end and has no word here; the number of attempts says it
/// ([`JobRecord::attempts`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The model ended the answer, or a stop string did.
    Stop,
    /// `max_tokens` or the context's end was reached.
    Length,
    /// The caller went away.
    CallerLeft,
    /// The deadline passed in mid-answer.
    Deadline,
    /// The deadline passed before the first token.
    TimedOut,
    /// A version that the job used was taken down.
    TakenDown,
    /// The key that asked was revoked.
    KeyRevoked,
    /// The process that answered was stopped, and the answer did not end in the time that was left for that.
    Drained,
    /// The constraint led where nothing could follow.
    DeadEnd,
    /// A hook of the caller failed, or refused the request or the answer.
    OwnHook,
    /// A hook of the adapter's publisher did.
    PublisherHook,
    /// A hook answered in the model's place, which was not asked.
    HookAnswered,
    /// Our error before the first token.
    Failed,
    /// Our error after the first token.
    Broken,
    /// The job cannot run, or was not let in: found before prefill.
    Refused,
}

impl Outcome {
    /// All of them, in the table's order.
    pub const ALL: [Self; 15] = [
        Self::Stop,
        Self::Length,
        Self::CallerLeft,
        Self::Deadline,
        Self::TakenDown,
        Self::KeyRevoked,
        Self::Drained,
        Self::DeadEnd,
        Self::OwnHook,
        Self::PublisherHook,
        Self::HookAnswered,
        Self::TimedOut,
        Self::Failed,
        Self::Broken,
        Self::Refused,
    ];

    /// The word in logs, figures and rows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::CallerLeft => "caller_left",
            Self::Deadline => "deadline",
            Self::TimedOut => "timed_out",
            Self::TakenDown => "taken_down",
            Self::KeyRevoked => "key_revoked",
            Self::Drained => "drained",
            Self::DeadEnd => "dead_end",
            Self::OwnHook => "own_hook",
            Self::PublisherHook => "publisher_hook",
            Self::HookAnswered => "hook_answered",
            Self::Failed => "failed",
            Self::Broken => "broken",
            Self::Refused => "refused",
        }
    }

    /// The same end as it looks to a caller who was handed so many tokens: a deadline and an error of ours are other
    /// rows of the table before the first token than after it.
    #[must_use]
    pub const fn after(self, delivered_tokens: u32) -> Self {
        match (self, delivered_tokens) {
            (Self::Deadline | Self::TimedOut, 0) => Self::TimedOut,
            (Self::Deadline | Self::TimedOut, _) => Self::Deadline,
            (Self::Failed | Self::Broken, 0) => Self::Failed,
            (Self::Failed | Self::Broken, _) => Self::Broken,
            _ => self,
        }
    }

    /// What counts for the bill; prices come on top of it.
    ///
    /// | outcome | input tokens | output tokens |
    /// | --- | --- | --- |
    /// | stop, length | charged | delivered |
    /// | caller left | charged once prefill began | delivered |
    /// | the caller's own hook failed or refused once prefill began | charged | computed |
    /// | the publisher's hook did | free | free |
    /// | a hook answered without the model | free | free |
    /// | deadline, take-down, revoked key, drain, dead end, in mid-answer | charged | delivered |
    /// | the same before the first token | free | free |
    /// | our error, before the first token or after it | free | free |
    /// | refused before prefill | free | free |
    #[must_use]
    pub const fn charge(self, usage: Usage, delivered_tokens: u32) -> Charge {
        let in_mid_answer = delivered_tokens > 0;
        let is_charged = match self {
            Self::Stop | Self::Length => true,
            Self::CallerLeft | Self::OwnHook => usage.prefill_began,
            Self::Deadline | Self::TakenDown | Self::KeyRevoked | Self::Drained | Self::DeadEnd => in_mid_answer,
            Self::PublisherHook | Self::HookAnswered | Self::TimedOut | Self::Failed | Self::Broken | Self::Refused => {
                false
            }
        };
        // Whoever brings the hook that keeps an answer back pays for what the model did for it.
        let output_tokens = if matches!(self, Self::OwnHook) { usage.completion_tokens } else { delivered_tokens };
        if is_charged {
            Charge { input_tokens: usage.prompt_tokens, output_tokens }
        } else {
            Charge { input_tokens: 0, output_tokens: 0 }
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What of a job counts for the bill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// Prompt tokens, cached ones included.
    pub input_tokens: u32,
    /// Tokens of the answer.
    pub output_tokens: u32,
}

/// All that is kept of one job: one row of usage. A request with `n` choices or several prompts has several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// The request, and which of its jobs.
    pub job: JobId,
    /// The tenant whose key the request carried.
    pub tenant: TenantId,
    /// The pool that ran it: the nodes of one base model.
    pub base: PoolId,
    /// The versions that acted, in order of application; none for the base model.
    pub adapters: Vec<Digest>,
    /// How it ended, which decides who is charged.
    pub outcome: Outcome,
    /// Tokens computed, over all attempts.
    pub usage: Usage,
    /// Tokens of the answer whose event the gateway took from the live attempt before the answer ended or the client's
    /// connection closed. Never more than were computed.
    pub delivered_tokens: u32,
    /// How often a node was given the job: 0 if none was, above 1 if a node was lost and another went on.
    pub attempts: u32,
    /// From the submission to the first token; `None` without one.
    pub first_token_after: Option<Duration>,
    /// From the submission to the end of the answer.
    pub took: Duration,
    /// Whether the prompt counts here: of the jobs of one prompt with several choices, it does in the first to be settled for
    /// which it is charged.
    pub counts_prompt: bool,
}

impl JobRecord {
    /// What counts for the bill. The charges of a request are the sums over its jobs.
    #[must_use]
    pub const fn charge(&self) -> Charge {
        let charge = self.outcome.charge(self.usage, self.delivered_tokens);
        if self.counts_prompt { charge } else { Charge { input_tokens: 0, ..charge } }
    }
}

/// All that is kept of one request that was queued, or that hooks ended before: who asked, and a row for each job. Written once, whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// The request.
    pub request: RequestId,
    /// The tenant whose key it carried.
    pub tenant: TenantId,
    /// The key or session.
    pub key: KeyId,
    /// Whose that is; `None` for a service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<PersonId>,
    /// The team whose limits bound it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<TeamId>,
    /// What was asked for, as the API calls it: `chat.completion` or `text_completion`.
    pub operation: String,
    /// What the caller wrote in `model`.
    pub model: String,
    /// When it was admitted, in milliseconds since the Unix epoch: the moment whose day and month it counts in.
    pub admitted_at_ms: u64,
    /// When its last job was settled.
    pub ended_at_ms: u64,
    /// Digest that repeats of it have in common; of requests with an `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Digest>,
    /// Limits in shadow mode that would have refused it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shadowed: Vec<Shadowed>,
    /// What hooks did in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookUse>,
    /// Its jobs by index. Never empty.
    pub jobs: Vec<JobRecord>,
}

/// A limit in shadow mode that would have refused a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadowed {
    /// Whose.
    pub subject: Subject,
    /// Which.
    pub policy: Policy,
}

impl RequestRecord {
    /// What counts for the bill, all jobs together.
    #[must_use]
    pub fn charge(&self) -> (u64, u64) {
        self.jobs.iter().map(JobRecord::charge).fold((0, 0), |(input, output), charge| {
            (input + u64::from(charge.input_tokens), output + u64::from(charge.output_tokens))
        })
    }

    /// Whose totals it moves, broadest first.
    #[must_use]
    pub fn subjects(&self) -> Vec<Subject> {
        let team = self.team.clone().map(Subject::Team);
        let member = self.person.clone().map(|person| Subject::Member(self.tenant.clone(), person));
        let tenant = [Subject::Tenant(self.tenant.clone())];
        // A session is no level of its own.
        let key = (!self.key.as_str().starts_with("ses_")).then(|| Subject::Key(self.key.clone()));
        tenant.into_iter().chain(team).chain(member).chain(key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_charges_is_kept() {
        let usage = |prefill_began| Usage { prompt_tokens: 10, cached_tokens: 4, completion_tokens: 5, prefill_began };
        let charge = |outcome: Outcome, began, delivered| {
            let Charge { input_tokens, output_tokens } = outcome.charge(usage(began), delivered);
            (input_tokens, output_tokens)
        };
        for outcome in Outcome::ALL {
            let in_mid_answer = match outcome {
                Outcome::PublisherHook
                | Outcome::HookAnswered
                | Outcome::TimedOut
                | Outcome::Failed
                | Outcome::Broken
                | Outcome::Refused => (0, 0),
                Outcome::OwnHook => (10, 5),
                _ => (10, 3),
            };
            assert_eq!(charge(outcome, true, 3), in_mid_answer, "{outcome}");
            let before_the_first_token = match outcome {
                Outcome::Stop | Outcome::Length | Outcome::CallerLeft => (10, 0),
                Outcome::OwnHook => (10, 5),
                _ => (0, 0),
            };
            assert_eq!(charge(outcome, true, 0), before_the_first_token, "{outcome}");
        }
        for outcome in [Outcome::CallerLeft, Outcome::OwnHook] {
            assert_eq!(charge(outcome, false, 0), (0, 0), "{outcome}: nothing was begun");
        }
    }

    #[test]
    fn deadlines_and_errors_are_told_apart_by_the_first_token() {
        assert_eq!([Outcome::Deadline.after(0), Outcome::TimedOut.after(0)], [Outcome::TimedOut; 2]);
        assert_eq!([Outcome::Deadline.after(1), Outcome::TimedOut.after(1)], [Outcome::Deadline; 2]);
        assert_eq!([Outcome::Broken.after(0), Outcome::Failed.after(0)], [Outcome::Failed; 2]);
        assert_eq!([Outcome::Broken.after(1), Outcome::Failed.after(1)], [Outcome::Broken; 2]);
        assert_eq!(Outcome::Stop.after(0), Outcome::Stop);
    }

    #[test]
    fn the_word_on_the_wire_is_the_word_in_the_log() {
        for outcome in Outcome::ALL {
            assert_eq!(serde_json::to_value(outcome).expect("a word"), outcome.as_str());
        }
    }
}
