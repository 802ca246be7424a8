//! Help texts of the engine's metrics.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Describes each metric of this crate. Call it after the exporter is installed.
pub fn describe() {
    describe_steps();
    describe_prefix_cache();
    describe_constraints();
}

fn describe_steps() {
    describe_histogram!("souk_engine_step_seconds", Unit::Seconds, "Time of a step of the model.");
    describe_histogram!("souk_engine_step_rows", "Token rows of a step: of prompts, answers and drafts.");
    describe_counter!("souk_engine_prefill_rows_total", "Prompt rows computed; those computed again count again.");
    describe_counter!("souk_engine_generated_tokens_total", "Tokens generated.");
    describe_counter!(
        "souk_engine_preempted_total",
        "Sequences that gave up their KV blocks to others and began again."
    );
    describe_gauge!("souk_engine_running_sequences", "Sequences in the batch.");
    describe_gauge!("souk_engine_waiting_sequences", "Sequences that wait for the batch.");
    describe_gauge!("souk_engine_free_kv_blocks", "KV blocks that no sequence holds.");
    describe_counter!("souk_speculation_drafted_total", "Drafted tokens that were checked, each a row of a step.");
    describe_counter!(
        "souk_speculation_accepted_total",
        "Drafted tokens that were accepted: tokens without a step of their own."
    );
}

fn describe_prefix_cache() {
    describe_counter!("souk_prefix_cache_queries_total", "Prompt tokens that the prefix cache was asked for.");
    describe_counter!("souk_prefix_cache_hits_total", "Prompt tokens that the prefix cache had.");
    describe_counter!("souk_prefix_cache_evicted_blocks_total", "KV blocks whose content made room for other content.");
    describe_gauge!(
        "souk_prefix_cache_idle_blocks",
        "KV blocks that no sequence holds and whose content may be found."
    );
}

fn describe_constraints() {
    describe_histogram!(
        "souk_constraint_compile_seconds",
        Unit::Seconds,
        "Time until a request had its constraint compiled, by kind of constraint."
    );
    describe_counter!("souk_constraint_errors_total", "Constraints that were refused, by reason.");
    describe_counter!("souk_constraint_cache_total", "Constraints looked for among compiled ones, by result.");
    describe_gauge!("souk_constraint_compiles", "Threads that compile constraints.");
    describe_gauge!(
        "souk_constraint_live_bytes",
        Unit::Bytes,
        "Memory that answers under way hold for their constraints, each with all that it may grow to."
    );
    describe_gauge!(
        "souk_constraint_cached_bytes",
        Unit::Bytes,
        "Compiled constraints that are kept, with their sources."
    );
}
