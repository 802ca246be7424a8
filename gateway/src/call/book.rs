//! Where jobs count.

use souk_protocol::{Digest, JobRecord};

use crate::metrics;

/// Books one job: the one place where a job counts.
pub(crate) fn book(record: &JobRecord) {
    metrics::settled(record);
    let JobRecord { usage, .. } = record;
    let charge = record.charge();
    tracing::info!(
        request.id = %record.job.request,
        job.index = record.job.index,
        tenant = %record.tenant,
        base = %record.base.0,
        adapters = ?record.adapters.iter().map(Digest::to_string).collect::<Vec<_>>(),
        outcome = %record.outcome,
        tokens.prompt = usage.prompt_tokens,
        tokens.cached = usage.cached_tokens,
        tokens.computed = usage.completion_tokens,
        tokens.delivered = record.delivered_tokens,
        charge.input = charge.input_tokens,
        charge.output = charge.output_tokens,
        attempts = record.attempts,
        first_token_ms = record.first_token_after.map(|after| after.as_millis() as u64),
        took_ms = record.took.as_millis() as u64,
        "job settled"
    );
}
