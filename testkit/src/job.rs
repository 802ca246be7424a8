//! Jobs for the queue.

use souk_protocol::{GenerateJob, JobId, PoolId, RequestId, SamplingParams, TenantId};

/// The only job of a new request: this tenant wants the likeliest tokens after a prompt of so many tokens from the base
/// alone, at most 100.
pub fn job(tenant: &str, pool: PoolId, prompt_tokens: usize) -> GenerateJob {
    GenerateJob {
        id: JobId { request: RequestId::new(), index: 0 },
        tenant: TenantId::from_stored(tenant),
        pool,
        prompt: vec![1; prompt_tokens],
        resume: Vec::new(),
        adapters: Vec::new(),
        sampling: SamplingParams::greedy(),
        constraint: None,
        max_tokens: 100,
        eos_tokens: Vec::new(),
        logprobs: None,
        prompt_logprobs: None,
        time_left: None,
    }
}
