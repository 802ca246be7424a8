//! Figures for operators. Labels are bounded: routes, statuses and error codes, never tenants or adapters.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use souk_protocol::hooks::Part;
use souk_protocol::{JobRecord, Policy, Subject};
use souk_queue::{AdapterTier, PoolStats};
use souk_routing::Choice;

const REFUSED: &str = "souk_gateway_refused_total";
const IN_FLIGHT: &str = "souk_gateway_in_flight_requests";
const READING_BYTES: &str = "souk_gateway_reading_body_bytes";
const TEXTS: &str = "souk_gateway_texts";
const FIRST_TOKEN_SECONDS: &str = "souk_gateway_time_to_first_token_seconds";
const INTER_TOKEN_SECONDS: &str = "souk_gateway_inter_token_seconds";
const PROMPT_TOKENS: &str = "souk_gateway_prompt_tokens_total";
const COMPLETION_TOKENS: &str = "souk_gateway_completion_tokens_total";
const SETTLED_JOBS: &str = "souk_gateway_settled_jobs_total";
const LOST_ATTEMPTS: &str = "souk_gateway_attempts_lost_total";
const SETTLED_TOKENS: &str = "souk_gateway_settled_tokens_total";
const SUBMITTED_AGAIN: &str = "souk_gateway_jobs_submitted_again_total";
const SIGNS_OF_LIFE: &str = "souk_gateway_signs_of_life_total";
const USAGE_ADOPTED: &str = "souk_gateway_usage_adopted_total";
const STAGE_SECONDS: &str = "souk_gateway_stage_seconds";
const HOOK_CALLS: &str = "souk_gateway_hook_calls_total";
const HOOKS_SKIPPED: &str = "souk_gateway_hooks_skipped_total";
const HOOK_LINES_LOST: &str = "souk_gateway_hook_lines_lost_total";
const LIMITS_REFUSED: &str = "souk_gateway_limits_refused_total";
const LIMITS_SHADOWED: &str = "souk_gateway_limits_shadowed_total";
const USAGE_WRITTEN: &str = "souk_gateway_usage_written_total";
const USAGE_WRITE_FAILURES: &str = "souk_gateway_usage_write_failures_total";
const USAGE_SET_ASIDE: &str = "souk_gateway_usage_set_aside_total";
const USAGE_UNWRITTEN: &str = "souk_gateway_usage_unwritten_requests";
const LIMITS_HOLDING: &str = "souk_gateway_limits_holding_requests";
const JOURNAL_BYTES: &str = "souk_gateway_journal_bytes";
const JOURNAL_CORRUPT: &str = "souk_gateway_journal_corrupt_lines_total";
const ROUTED_JOBS: &str = "souk_gateway_routed_jobs_total";
const ADAPTER_MOVES: &str = "souk_gateway_adapter_moves_total";
const NODES: &str = "souk_gateway_nodes";
const NODE_PLACES: &str = "souk_gateway_node_places";
const WAITING_FOR_NODE: &str = "souk_gateway_waiting_for_node_requests";
const QUEUED_JOBS: &str = "souk_queue_queued_jobs";
const RUNNING_JOBS: &str = "souk_queue_running_jobs";
const DEAD_LETTERS: &str = "souk_queue_dead_letters";
const OLDEST_JOB_AGE: &str = "souk_queue_oldest_job_age_seconds";

/// Set once the exporter is there.
static DESCRIBED: OnceLock<()> = OnceLock::new();

/// Describes each metric. Call it after the exporter is installed.
pub fn describe() {
    describe_counter!(REFUSED, "Requests refused or failed, by error code.");
    describe_gauge!(IN_FLIGHT, "Requests under way, streams included.");
    describe_gauge!(
        READING_BYTES,
        "Bytes of request bodies that are being read, as announced, or whose texts are held."
    );
    describe_gauge!(TEXTS, "Long texts, by state: worked on, or waiting for it.");
    describe_histogram!(FIRST_TOKEN_SECONDS, Unit::Seconds, "Time from dispatch to the first token of an answer.");
    describe_histogram!(INTER_TOKEN_SECONDS, Unit::Seconds, "Time between arrivals of an answer's tokens.");
    describe_counter!(PROMPT_TOKENS, "Prompt tokens dispatched, each prompt once.");
    describe_counter!(COMPLETION_TOKENS, "Tokens generated.");
    describe_counter!(SETTLED_JOBS, "Jobs that are over and counted, by outcome.");
    describe_counter!(
        LOST_ATTEMPTS,
        "Attempts that were lost in mid-answer or handed over by their node, by what came of it: taken_back, or stale where the queue knew already."
    );
    describe_counter!(SUBMITTED_AGAIN, "Jobs that the queue had lost with its data and has again.");
    describe_counter!(
        SIGNS_OF_LIFE,
        "Signs of life that queues have heard, each with all that was delivered since the last."
    );
    describe_counter!(USAGE_ADOPTED, "Requests of gateways that are gone, written down here.");
    describe_counter!(
        SETTLED_TOKENS,
        "Tokens of settled jobs: of their prompts, cached among these, computed, delivered."
    );
    describe_histogram!(STAGE_SECONDS, Unit::Seconds, "Time of a request in each stage of its way, by stage.");
    describe_counter!(HOOK_CALLS, "Calls of hooks, by part and by how they went: ok, refused, or how they failed.");
    describe_counter!(HOOKS_SKIPPED, "Hooks that failed and were passed over, by part.");
    describe_counter!(HOOK_LINES_LOST, "What hooks said and could not be kept, since more waits than may.");
    describe_counter!(LIMITS_REFUSED, "Requests that a limit refused, by the broadest spent one's policy and level.");
    describe_counter!(LIMITS_SHADOWED, "Limits in shadow mode that would have refused, by policy and level.");
    describe_counter!(USAGE_WRITTEN, "Requests whose rows of usage were written.");
    describe_counter!(USAGE_WRITE_FAILURES, "Batches of usage that could not be written and are tried again.");
    describe_counter!(USAGE_SET_ASIDE, "Requests whose usage the database refuses, set aside in the journal's folder.");
    describe_gauge!(USAGE_UNWRITTEN, "Settled requests whose rows are not written yet.");
    describe_gauge!(LIMITS_HOLDING, "Requests that hold something of their limits, settled ones included.");
    describe_gauge!(JOURNAL_BYTES, "Bytes of the journal of usage.");
    describe_counter!(JOURNAL_CORRUPT, "Lines of the journal that a start found corrupt and skipped.");
    describe_counter!(
        ROUTED_JOBS,
        "Jobs with an adapter, by where their node has it (device, host or nowhere), and by why the node was chosen."
    );
    describe_counter!(ADAPTER_MOVES, "Requests that went to a node without their adapter after others went elsewhere.");
    describe_gauge!(NODES, "Live nodes, by base model.");
    describe_gauge!(NODE_PLACES, "Jobs that the batches of all live nodes have places for, by base model.");
    describe_gauge!(WAITING_FOR_NODE, "Requests that wait until there is a node at all, by base model.");
    describe_gauge!(QUEUED_JOBS, "Jobs that wait for a node, by base model.");
    describe_gauge!(RUNNING_JOBS, "Jobs that a node runs, by base model.");
    describe_gauge!(DEAD_LETTERS, "Jobs that were given up, by base model.");
    describe_gauge!(OLDEST_JOB_AGE, "Seconds that the oldest waiting job has waited, by base model.");
    DESCRIBED.get_or_init(|| ());
}

pub(crate) fn refused(code: &'static str) {
    counter!(REFUSED, "code" => code).increment(1);
}

/// What every request or token counts, looked up by its name once.
struct Known<Metric> {
    metric: OnceLock<Metric>,
    /// Its label's value, if it has one.
    label: &'static str,
    look_up: fn(&'static str) -> Metric,
}

impl<Metric> Known<Metric> {
    const fn new(look_up: fn(&'static str) -> Metric) -> Self {
        Self::labelled("", look_up)
    }

    const fn labelled(label: &'static str, look_up: fn(&'static str) -> Metric) -> Self {
        Self { metric: OnceLock::new(), label, look_up }
    }

    fn with(&self, count: impl FnOnce(&Metric)) {
        // What is looked up before there is an exporter counts for nobody, and would for ever.
        if DESCRIBED.get().is_some() {
            count(self.metric.get_or_init(|| (self.look_up)(self.label)));
        } else {
            count(&(self.look_up)(self.label));
        }
    }
}

pub(crate) fn first_token(after: Duration) {
    static METRIC: Known<Histogram> = Known::new(|_| histogram!(FIRST_TOKEN_SECONDS));
    METRIC.with(|metric| metric.record(after));
}

pub(crate) fn next_tokens(after: Duration) {
    static METRIC: Known<Histogram> = Known::new(|_| histogram!(INTER_TOKEN_SECONDS));
    METRIC.with(|metric| metric.record(after));
}

pub(crate) fn prompt_tokens(num_tokens: usize) {
    static METRIC: Known<Counter> = Known::new(|_| counter!(PROMPT_TOKENS));
    METRIC.with(|metric| metric.increment(num_tokens as u64));
}

pub(crate) fn completion_tokens(num_tokens: usize) {
    static METRIC: Known<Counter> = Known::new(|_| counter!(COMPLETION_TOKENS));
    METRIC.with(|metric| metric.increment(num_tokens as u64));
}

/// A job that is over, as it counts.
pub(crate) fn settled(record: &JobRecord) {
    const fn tokens(kind: &'static str) -> Known<Counter> {
        Known::labelled(kind, |kind| counter!(SETTLED_TOKENS, "kind" => kind))
    }
    static TOKENS: [Known<Counter>; 4] = [tokens("prompt"), tokens("cached"), tokens("computed"), tokens("delivered")];
    counter!(SETTLED_JOBS, "outcome" => record.outcome.as_str()).increment(1);
    let usage = &record.usage;
    let tokens = [usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, record.delivered_tokens];
    for (metric, num_tokens) in TOKENS.iter().zip(tokens) {
        metric.with(|metric| metric.increment(u64::from(num_tokens)));
    }
}

/// An attempt that was lost, and whether its job was taken back for it.
pub(crate) fn lost_attempt(is_taken_back: bool) {
    counter!(LOST_ATTEMPTS, "came_to" => if is_taken_back { "taken_back" } else { "stale" }).increment(1);
}

/// A job that the queue had lost is there again.
pub(crate) fn submitted_again() {
    counter!(SUBMITTED_AGAIN).increment(1);
}

/// A queue has heard that this gateway lives.
pub(crate) fn sign_of_life() {
    counter!(SIGNS_OF_LIFE).increment(1);
}

/// A request of a gateway that is gone is written down here.
pub(crate) fn adopted() {
    counter!(USAGE_ADOPTED).increment(1);
}

/// A part of a request's way through the gateway.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    /// Who calls, and what binds it; before the body.
    Authenticate,
    /// What the model means for the caller.
    Authorise,
    /// A place among the requests under way.
    Admit,
    /// Hooks before the model, of requests that have any.
    Hooks,
    /// Template and tokens.
    Prepare,
    /// All levels of limits, and the journal.
    Reserve,
    /// All its jobs into the queue.
    Submit,
    /// From its last job's settlement to the writer.
    Settle,
}

/// How long a stage took.
pub(crate) fn stage(stage: Stage, took: Duration) {
    const fn of(name: &'static str) -> Known<Histogram> {
        Known::labelled(name, |name| histogram!(STAGE_SECONDS, "stage" => name))
    }
    /// In the order of the stages.
    static STAGES: [Known<Histogram>; 8] = [
        of("authenticate"),
        of("authorise"),
        of("admit"),
        of("hooks"),
        of("prepare"),
        of("reserve"),
        of("submit"),
        of("settle"),
    ];
    STAGES[stage as usize].with(|metric| metric.record(took));
}

/// A hook was called.
pub(crate) fn hook_called(part: Part, how: &'static str) {
    counter!(HOOK_CALLS, "part" => part.as_str(), "how" => how).increment(1);
}

/// A hook failed and was passed over.
pub(crate) fn hook_skipped(part: Part) {
    counter!(HOOKS_SKIPPED, "part" => part.as_str()).increment(1);
}

/// What a hook said is lost.
pub(crate) fn hook_line_lost() {
    counter!(HOOK_LINES_LOST).increment(1);
}

/// A limit refused a request.
pub(crate) fn limit_refused(subject: &Subject, policy: Policy) {
    counter!(LIMITS_REFUSED, "policy" => policy.as_str(), "level" => subject.level()).increment(1);
}

/// A limit in shadow mode would have refused one.
pub(crate) fn limit_shadowed(subject: &Subject, policy: Policy) {
    counter!(LIMITS_SHADOWED, "policy" => policy.as_str(), "level" => subject.level()).increment(1);
}

/// So many requests were written.
pub(crate) fn usage_written(num_requests: usize) {
    counter!(USAGE_WRITTEN).increment(num_requests as u64);
}

pub(crate) fn usage_write_failed() {
    counter!(USAGE_WRITE_FAILURES).increment(1);
}

pub(crate) fn usage_set_aside() {
    counter!(USAGE_SET_ASIDE).increment(1);
}

pub(crate) fn corrupt_lines(num_lines: usize) {
    counter!(JOURNAL_CORRUPT).increment(num_lines as u64);
}

/// What is held and not written yet.
pub(crate) fn usage(num_unwritten: usize, num_holding: usize, journal_bytes: u64) {
    gauge!(USAGE_UNWRITTEN).set(num_unwritten as f64);
    gauge!(LIMITS_HOLDING).set(num_holding as f64);
    gauge!(JOURNAL_BYTES).set(journal_bytes as f64);
}

/// The queue of one base model as it is now.
pub(crate) fn queue(base: &str, stats: &PoolStats) {
    let set = |name: &'static str, value: f64| gauge!(name, "base" => base.to_owned()).set(value);
    set(QUEUED_JOBS, stats.queued as f64);
    set(RUNNING_JOBS, stats.running as f64);
    set(DEAD_LETTERS, stats.dead_letters as f64);
    let oldest = stats.lanes.iter().filter_map(|lane| lane.oldest).max().unwrap_or_default();
    set(OLDEST_JOB_AGE, oldest.as_secs_f64());
}

/// Jobs were sent to a lane.
pub(crate) fn routed(choice: &Choice, jobs: u32) {
    let found = match choice.found {
        Some(AdapterTier::Device) => "device",
        Some(AdapterTier::Host) => "host",
        None => "nowhere",
    };
    counter!(ROUTED_JOBS, "found" => found, "why" => choice.why.as_str()).increment(u64::from(jobs));
    counter!(ADAPTER_MOVES).increment(u64::from(choice.moved));
}

/// The live nodes of one base model.
pub(crate) fn nodes(base: &str, num_nodes: usize, num_places: u64) {
    gauge!(NODES, "base" => base.to_owned()).set(num_nodes as f64);
    gauge!(NODE_PLACES, "base" => base.to_owned()).set(num_places as f64);
}

/// Counts a request as one that waits for a node until it is dropped.
pub(crate) struct WaitingForNode(String);

impl WaitingForNode {
    pub(crate) fn enter(base: &str) -> Self {
        gauge!(WAITING_FOR_NODE, "base" => base.to_owned()).increment(1.0);
        Self(base.to_owned())
    }
}

impl Drop for WaitingForNode {
    fn drop(&mut self) {
        gauge!(WAITING_FOR_NODE, "base" => std::mem::take(&mut self.0)).decrement(1.0);
    }
}

/// Bytes of bodies that are being read.
pub(crate) fn reading(num_bytes: u64) {
    gauge!(READING_BYTES).set(num_bytes as f64);
}

/// Long texts that are worked on, and that wait for it.
pub(crate) fn texts((working, waiting): (u64, usize)) {
    gauge!(TEXTS, "state" => "working").set(working as f64);
    gauge!(TEXTS, "state" => "waiting").set(waiting as f64);
}

static IN_FLIGHT_REQUESTS: Known<Gauge> = Known::new(|_| gauge!(IN_FLIGHT));

/// Counts a request as under way until it is dropped.
pub(crate) struct InFlight(());

impl InFlight {
    pub(crate) fn enter() -> Self {
        IN_FLIGHT_REQUESTS.with(|metric| metric.increment(1.0));
        Self(())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        IN_FLIGHT_REQUESTS.with(|metric| metric.decrement(1.0));
    }
}
