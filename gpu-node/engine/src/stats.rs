//! Figures about the engine.

use std::time::Duration;

use super::advance::Advance;
use super::scheduler::Reuse;

/// Figures as of the last step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineStats {
    /// Sequences in the batch.
    pub num_running: usize,
    /// Sequences that wait for the batch.
    pub num_waiting: usize,
    /// Sequences that could enter the batch now; 0 while others wait, since they come first.
    pub num_free_places: usize,
    /// KV blocks that nobody holds.
    pub num_free_blocks: usize,
    /// Those among them whose content may be found again.
    pub num_idle_blocks: usize,
    /// KV blocks in all.
    pub num_blocks: usize,
    /// Steps that the model has run so far.
    pub num_steps: u64,
    /// Prompt rows computed so far; those that were computed again are counted again.
    pub num_prefill_rows: u64,
    /// Tokens generated so far.
    pub num_generated: u64,
    /// Sequences that had to give up their blocks so far.
    pub num_preempted: u64,
    /// Drafted tokens that were checked, each a row of a step, so far.
    pub num_drafted: u64,
    /// Drafted tokens that were accepted, so far: tokens that took no step of their own.
    pub num_accepted: u64,
    /// Prompt tokens so far that the prefix cache was asked for, and that it had.
    pub reuse: Reuse,
    /// KV blocks so far whose content had to make room.
    pub num_evicted: u64,
    /// Time of the last step.
    pub last_step: Duration,
    /// Generated tokens per second: an average in which a step counts for about five seconds.
    pub tokens_per_second: f64,
}

/// What one step did.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepFigures {
    pub(super) took: Duration,
    pub(super) num_rows: usize,
    pub(super) num_decode_rows: usize,
    pub(super) num_preempted: usize,
    pub(super) advance: Advance,
}

impl EngineStats {
    /// Adds a step, here and in the process's metrics.
    pub(super) fn add(&mut self, figures: StepFigures) {
        let StepFigures { took, num_rows, num_decode_rows, num_preempted, advance } = figures;
        let Advance { num_generated, num_drafted, num_accepted } = advance;
        let num_prefill_rows = num_rows - num_decode_rows;
        self.num_steps += 1;
        self.num_prefill_rows += num_prefill_rows as u64;
        self.num_generated += num_generated as u64;
        self.num_preempted += num_preempted as u64;
        self.num_drafted += num_drafted as u64;
        self.num_accepted += num_accepted as u64;
        self.last_step = took;
        let seconds = took.as_secs_f64().max(1e-9);
        let share = (seconds / 5.0).min(1.0);
        self.tokens_per_second += share * (num_generated as f64 / seconds - self.tokens_per_second);
        metrics::histogram!("souk_engine_step_seconds").record(seconds);
        metrics::histogram!("souk_engine_step_rows").record(num_rows as f64);
        metrics::counter!("souk_engine_prefill_rows_total").increment(num_prefill_rows as u64);
        metrics::counter!("souk_engine_generated_tokens_total").increment(num_generated as u64);
        metrics::counter!("souk_engine_preempted_total").increment(num_preempted as u64);
        metrics::counter!("souk_speculation_drafted_total").increment(num_drafted as u64);
        metrics::counter!("souk_speculation_accepted_total").increment(num_accepted as u64);
    }

    /// Takes the prefix cache's figures over, here and into the process's metrics.
    pub(super) fn count_prefix_cache(&mut self, reuse: Reuse, num_evicted: u64) {
        let before = std::mem::replace(&mut self.reuse, reuse);
        metrics::counter!("souk_prefix_cache_queries_total").increment(reuse.num_wanted - before.num_wanted);
        metrics::counter!("souk_prefix_cache_hits_total").increment(reuse.num_found - before.num_found);
        let evicted_before = std::mem::replace(&mut self.num_evicted, num_evicted);
        metrics::counter!("souk_prefix_cache_evicted_blocks_total").increment(num_evicted - evicted_before);
    }

    /// Publishes what the engine holds now.
    pub(super) fn publish_gauges(&self) {
        metrics::gauge!("souk_engine_running_sequences").set(self.num_running as f64);
        metrics::gauge!("souk_engine_waiting_sequences").set(self.num_waiting as f64);
        metrics::gauge!("souk_engine_free_kv_blocks").set(self.num_free_blocks as f64);
        metrics::gauge!("souk_prefix_cache_idle_blocks").set(self.num_idle_blocks as f64);
    }
}
