//! What is said to the functions and what they answer.

use std::fmt;
use std::time::Duration;

use redis::{FromRedisValue, Value, from_redis_value};
use serde::{Deserialize, Serialize};
use souk_protocol::deadline::bounded;
use souk_protocol::{
    Fetchable, GatewayId, GenerateJob, JobFailure, JobId, NodeId, Outcome, PoolId, RequestId, TokenId, Usage,
};
use souk_redis::Fault;

use crate::config::QueueConfig;
use crate::error::{FullScope, QueueError, QueueFull, time_to_drain};
use crate::words::{
    DeadLetter, Delivery, JobState, LaneStats, Lease, Notice, NoticeKind, Orphan, OrphanJob, PoolStats, Priority,
    ReplyTo, Settled, Settlement, Submission, Submitted,
};

/// The lane of jobs without a preference; another is a node's name after a plus.
const FREE_LANE: &str = "-";

/// A job as it lies in the store, which does not look into it.
#[derive(Serialize, Deserialize)]
struct Body<'a, Job> {
    job: Job,
    reply_to: std::borrow::Cow<'a, ReplyTo>,
    priority: Priority,
}

/// How a job ended, as the functions say it: attempts, outcome, tokens of the prompt, cached ones, those of the answer, whether
/// prefill began, what is untold and why.
type SaidSettled = (u32, String, u32, u32, u32, u8, String, String);

/// What the functions hand over of a job: its name, attempt, milliseconds that are left or -1, those that it waited, body and
/// tokens that were handed in.
type SaidDelivery = (String, u32, i64, u64, Vec<u8>, Vec<u8>);

/// The settings in the order that the functions read them in.
pub(super) fn config(config: &QueueConfig) -> String {
    let in_flight = config.max_in_flight_per_tenant.map_or(-1, |most| i64::try_from(most).unwrap_or(i64::MAX));
    let QueueConfig { max_queued_per_tenant, max_queued, max_deliveries, output_token_cost, .. } = config;
    let [lease, heartbeat, steal, remember] =
        [config.lease, config.heartbeat_timeout, config.steal_after, config.remember_over].map(millis);
    format!(
        "{max_queued_per_tenant} {max_queued} {in_flight} {lease} {heartbeat} {steal} {max_deliveries} {remember} {output_token_cost}"
    )
}

/// What the keys of a pool have in braces, so that all of them are in one slot.
#[must_use]
pub fn tag(pool: PoolId) -> String {
    format!("q{}", &pool.0.hex()[..32])
}

/// Milliseconds, of which a moment of the store can be made.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(bounded(Some(duration)).as_millis()).unwrap_or(u64::MAX)
}

fn lane(lane: Option<&NodeId>) -> String {
    lane.map_or_else(|| FREE_LANE.to_owned(), |node| format!("+{node}"))
}

pub(super) fn tokens(tokens: &[TokenId]) -> Vec<u8> {
    tokens.iter().flat_map(|token| token.to_le_bytes()).collect()
}

fn read_tokens(bytes: &[u8]) -> Vec<TokenId> {
    bytes.chunks_exact(4).map(|token| TokenId::from_le_bytes([token[0], token[1], token[2], token[3]])).collect()
}

/// What `submit` is told.
pub(super) fn submission(submission: &Submission) -> Result<Vec<Vec<u8>>, QueueError> {
    let Submission { job, reply_to, priority, account, attempts, .. } = submission;
    let left = job.time_left.map_or(-1, |left| i64::try_from(millis(left)).unwrap_or(i64::MAX));
    let body = Body { job, reply_to: std::borrow::Cow::Borrowed(reply_to), priority: *priority };
    let body = serde_json::to_vec(&body).map_err(unavailable)?;
    let mut args = vec![
        job.id.to_string().into_bytes(),
        job.tenant.as_str().into(),
        lane(submission.lane.as_ref()).into_bytes(),
        reply_to.gateway.as_str().into(),
        u32::from(*priority).to_string().into_bytes(),
        job.prompt.len().to_string().into_bytes(),
        left.to_string().into_bytes(),
        attempts.to_string().into_bytes(),
        body,
        account.as_ref().map(|account| account.to_vec()).unwrap_or_default(),
    ];
    args.extend(job.adapters.iter().map(|adapter| adapter.digest.to_string().into_bytes()));
    Ok(args)
}

/// What `submit` said.
pub(super) fn submitted(said: Value) -> Result<Submitted, QueueError> {
    let parts: Vec<String> = read(said)?;
    let parts: Vec<_> = parts.iter().map(String::as_str).collect();
    match parts[..] {
        ["new"] => Ok(Submitted::Queued),
        [state] => Ok(Submitted::Already(self::state(state)?)),
        ["full", scope, limit, queued, pace] => {
            let scope = match scope {
                "tenant" => FullScope::TenantQueued,
                "in_flight" => FullScope::TenantInFlight,
                "pool" => FullScope::PoolQueued,
                other => return Err(strange(other)),
            };
            let (limit, queued, pace) = (number(limit)?, number(queued)?, number(pace)?);
            Err(QueueFull { scope, limit, queued, retry_after: time_to_drain(pace as f64 / 1e6, queued / 2) }.into())
        }
        _ => Err(strange(parts)),
    }
}

pub(super) fn state(word: &str) -> Result<JobState, QueueError> {
    match word {
        "queued" => Ok(JobState::Queued),
        "running" => Ok(JobState::Running),
        "over" => Ok(JobState::Over),
        other => Err(strange(other)),
    }
}

/// What `settle` is told after the lease.
pub(super) fn settlement(settlement: &Settlement) -> Vec<String> {
    match settlement {
        Settlement::Over { outcome, usage } => {
            let Usage { prompt_tokens, cached_tokens, completion_tokens, prefill_began } = usage;
            let counts = [*prompt_tokens, *cached_tokens, *completion_tokens, u32::from(*prefill_began)];
            let words = ["over".to_owned(), outcome.as_str().to_owned()];
            words.into_iter().chain(counts.iter().map(u32::to_string)).collect()
        }
        Settlement::Retry { reason } => vec!["retry".to_owned(), bounded_reason(reason)],
        Settlement::GiveBack => vec!["give_back".to_owned()],
    }
}

/// A reason is for a person to read; more than this is in the node's log.
fn bounded_reason(reason: &str) -> String {
    const MOST_CHARS: usize = 2000;
    reason.chars().take(MOST_CHARS).collect()
}

/// What `claim` handed over. A job whose body cannot be read is left to its lease, and so to the dead letters.
pub(super) fn deliveries(lease_for: Duration, said: Value) -> Result<Vec<Delivery>, QueueError> {
    let said: Vec<SaidDelivery> = read(said)?;
    // The others are in this node's hands by now, and are not to wait for their leases because of it.
    Ok(said.into_iter().filter_map(|one| delivery(lease_for, one).ok()).collect())
}

fn delivery(lease_for: Duration, said: SaidDelivery) -> Result<Delivery, QueueError> {
    let (name, attempt, left, waited, body, resume) = said;
    let Body { mut job, reply_to, .. } = read_body(&body)?;
    if !resume.is_empty() {
        job.resume = read_tokens(&resume);
    }
    job.time_left = u64::try_from(left).ok().map(Duration::from_millis);
    let lease = Lease { job: job_id(&name)?, attempt };
    Ok(Delivery { job, lease, lease_for, reply_to: reply_to.into_owned(), waited: Duration::from_millis(waited) })
}

fn read_body(body: &[u8]) -> Result<Body<'_, GenerateJob>, QueueError> {
    serde_json::from_slice(body).map_err(unavailable)
}

/// The adapters of jobs, each once, in the order of the jobs.
pub(super) fn adapters(said: Value) -> Result<Vec<Fetchable>, QueueError> {
    let bodies: Vec<Vec<u8>> = read(said)?;
    let mut adapters: Vec<Fetchable> = Vec::new();
    for body in bodies {
        let Ok(Body { job, .. }) = read_body(&body) else { continue };
        for adapter in &job.adapters {
            if !adapters.iter().any(|known| known.digest == adapter.digest) {
                adapters.push(adapter.into());
            }
        }
    }
    Ok(adapters)
}

/// A note of a mailbox, with its number.
pub(super) fn numbered<Note>(
    said: Value,
    note: impl Fn(Value) -> Result<Note, QueueError>,
) -> Result<Vec<(u64, Note)>, QueueError> {
    let said: Vec<(String, Value)> = read(said)?;
    said.into_iter().map(|(place, value)| Ok((number(&place)? as u64, note(value)?))).collect()
}

pub(super) fn lease(said: Value) -> Result<Lease, QueueError> {
    let (job, attempt): (String, u32) = read(said)?;
    Ok(Lease { job: job_id(&job)?, attempt })
}

pub(super) fn notice(said: Value) -> Result<Notice, QueueError> {
    let Value::Array(parts) = said else { return Err(strange(said)) };
    let mut parts = parts.into_iter();
    let (Some(job), Some(kind)) = (parts.next(), parts.next()) else { return Err(strange("half a notice")) };
    let (job, kind): (String, u8) = (read(job)?, read(kind)?);
    let kind = match kind {
        0 => NoticeKind::Requeued,
        _ => NoticeKind::Settled(settled(Value::Array(parts.collect()))?),
    };
    Ok(Notice { job: job_id(&job)?, kind })
}

pub(super) fn orphan(said: Value) -> Result<Orphan, QueueError> {
    let (request, account, jobs): (String, Vec<u8>, Vec<(u32, u32, Value)>) = read(said)?;
    let jobs = jobs
        .into_iter()
        .map(|(index, delivered_tokens, how)| Ok(OrphanJob { index, settled: settled(how)?, delivered_tokens }));
    let mut jobs = jobs.collect::<Result<Vec<_>, QueueError>>()?;
    jobs.sort_by_key(|job| job.index);
    Ok(Orphan { request: RequestId::from_stored(request), account: account.into(), jobs })
}

fn settled(said: Value) -> Result<Settled, QueueError> {
    let (attempts, outcome, prompt_tokens, cached_tokens, completion_tokens, began, untold, reason): SaidSettled =
        read(said)?;
    let outcome = Outcome::ALL.into_iter().find(|known| known.as_str() == outcome).ok_or_else(|| strange(&outcome))?;
    let usage = Usage { prompt_tokens, cached_tokens, completion_tokens, prefill_began: began != 0 };
    let untold = match untold.as_str() {
        "" => None,
        "deadline" => Some(JobFailure::DeadlineExceeded),
        "shutting_down" => Some(JobFailure::ShuttingDown),
        "taken_down" => Some(JobFailure::TakenDown),
        "dead_letter" => Some(JobFailure::DeadLetter { attempts, reason }),
        other => return Err(strange(other)),
    };
    Ok(Settled { outcome, usage, attempts, untold })
}

/// A dead letter: its number, deliveries, reason, lane, body, and the tokens to go on from.
type Letter = (String, u32, String, String, Vec<u8>, Vec<u8>);
/// A lane: its name, how many wait, for how many milliseconds the oldest has, and whether its node lives.
type Lane = (String, usize, i64, u8);

/// Dead letters and the number of the last one.
pub(super) fn letters(said: Value) -> Result<(Vec<DeadLetter>, Option<String>), QueueError> {
    let said: Vec<Letter> = read(said)?;
    let last = said.last().map(|letter| letter.0.clone());
    let mut letters = Vec::new();
    for (_, deliveries, reason, lane, body, resume) in said {
        // A body that the store has let go of, or that a version wrote which is not known here, is passed over.
        let Ok(Body { mut job, reply_to, priority }) = read_body(&body) else { continue };
        if !resume.is_empty() {
            job.resume = read_tokens(&resume);
        }
        let (lane, reply_to) = (read_lane(&lane), reply_to.into_owned());
        let submission = Submission { job, lane, reply_to, priority, account: None, attempts: 0 };
        letters.push(DeadLetter { submission, deliveries, reason });
    }
    Ok((letters, last))
}

fn read_lane(text: &str) -> Option<NodeId> {
    text.strip_prefix('+').map(NodeId::from_stored)
}

pub(super) fn stats(said: Value) -> Result<PoolStats, QueueError> {
    let (queued, running, dead_letters, lanes): (usize, usize, usize, Vec<Lane>) = read(said)?;
    let mut lanes: Vec<_> = lanes
        .into_iter()
        .map(|(name, queued, oldest, live)| LaneStats {
            lane: read_lane(&name),
            queued,
            oldest: u64::try_from(oldest).ok().map(Duration::from_millis),
            live: live != 0,
        })
        .collect();
    lanes.sort_by(|one, other| one.lane.cmp(&other.lane));
    Ok(PoolStats { queued, running, dead_letters, lanes })
}

/// A gateway's or node's mailbox and bell.
pub(super) fn cancellations(node: &NodeId) -> String {
    format!("c:{node}")
}

pub(super) fn notices(gateway: &GatewayId) -> String {
    format!("n:{gateway}")
}

fn job_id(text: &str) -> Result<JobId, QueueError> {
    let (request, index) = text.rsplit_once('/').ok_or_else(|| strange(text))?;
    let index = index.parse().map_err(|_| strange(text))?;
    Ok(JobId { request: RequestId::from_stored(request), index })
}

fn number(text: &str) -> Result<usize, QueueError> {
    text.parse().map_err(|_| strange(text))
}

/// An answer of the form that the function gives.
pub(super) fn read<T: FromRedisValue>(said: Value) -> Result<T, QueueError> {
    from_redis_value(said).map_err(unavailable)
}

/// What makes no sense is no answer.
fn strange(said: impl fmt::Debug) -> QueueError {
    unavailable(Fault::Unexpected(format!("{said:?}").chars().take(300).collect()))
}

pub(super) fn unavailable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> QueueError {
    QueueError::Unavailable(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_of_a_body_are_a_job_or_refused() {
        souk_testkit::fuzz("queue_body", |bytes| {
            let said = ("req_1/0".to_owned(), 1, 1000, 5, bytes.to_vec(), vec![1, 0, 0, 0, 2, 0, 0, 0, 3]);
            match delivery(Duration::from_secs(1), said) {
                Ok(delivery) => {
                    assert_eq!((&delivery.job.resume[..], delivery.lease.attempt), (&[1, 2][..], 1));
                    "a job".to_owned()
                }
                Err(error) => std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default(),
            }
        });
    }

    #[test]
    fn what_is_submitted_is_what_is_delivered() {
        let job = souk_testkit::job::job("tenant", PoolId(souk_protocol::Digest::of(b"base")), 3);
        let reply_to = ReplyTo { gateway: GatewayId::from_stored("gw"), advertise: Some("10.0.0.7:9000".to_owned()) };
        let priority = Priority::ORDINARY;
        let sent = Submission { job, lane: None, reply_to, priority, account: None, attempts: 0 };
        let args = submission(&sent).expect("it can be written");
        let said = (sent.job.id.to_string(), 1, -1, 5, args[8].clone(), Vec::new());
        let got = delivery(Duration::from_secs(1), said).expect("it can be read");
        assert_eq!((got.job, got.reply_to, got.lease.job), (sent.job.clone(), sent.reply_to, sent.job.id));
    }

    #[test]
    fn answers_that_make_no_sense_are_told_as_such() {
        for text in ["", "req_1", "req_1/", "req_1/x", "req_1/-1"] {
            assert!(job_id(text).is_err(), "{text}");
        }
        assert!(submitted(Value::Array(vec![Value::SimpleString("odd".to_owned())])).is_err());
        assert!(notice(Value::Nil).is_err() && notice(Value::Array(vec![])).is_err());
        assert!(stats(Value::Int(3)).is_err() && orphan(Value::Array(vec![Value::Nil])).is_err());
    }
}
