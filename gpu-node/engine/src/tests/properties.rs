//! Whatever arrives whenever: every answer is the right one, budgets hold (the scripted runner checks them), nobody
//! starves, and all blocks are free at the end.

use proptest::prelude::*;
use souk_protocol::{FinishReason, TenantId, TokenId};
use souk_runner::RunnerLimits;
use souk_runner::scripted::{adapter, answer};

use super::lab::*;
use crate::EngineConfig;

#[derive(Clone, Debug)]
struct Arrival {
    /// Steps to take before it comes.
    after: usize,
    num_prompt: usize,
    /// Tokens at the prompt's start that many have in common.
    num_common: usize,
    tenant: u8,
    max_tokens: u32,
    adapter: Option<u8>,
    scored: bool,
    /// Leaves again this many steps after the last arrival.
    cancel: bool,
}

fn arrival() -> impl Strategy<Value = Arrival> {
    let prompt = (1..60_usize, 0..60_usize, 0..2_u8);
    let asked = (0..40_u32, prop::option::of(0..3_u8), any::<bool>(), prop::bool::weighted(0.1));
    (0..4_usize, prompt, asked).prop_map(|(after, prompt, asked)| {
        let (num_prompt, num_common, tenant) = prompt;
        let (max_tokens, adapter, scored, cancel) = asked;
        Arrival { after, num_prompt, num_common, tenant, max_tokens, adapter, scored, cancel }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn every_answer_is_right_however_requests_arrive(
        arrivals in prop::collection::vec(arrival(), 1..16),
        max_sequences in 1..8_usize,
        max_rows in 1..40_usize,
        beside_decode in 1..20_usize,
        max_logit_rows in 1..12_usize,
        num_blocks in 7..30_usize,
        prefix_cache in any::<bool>(),
        max_adapter_bytes in 1..40_usize,
        max_speculative_rows in 0..10_usize,
    ) {
        let config = EngineConfig {
            max_sequences,
            max_batch_tokens: max_rows,
            max_prefill_tokens_beside_decode: beside_decode,
            max_requests: 99,
            max_speculative_tokens: max_speculative_rows,
            prefix_cache,
            max_adapter_bytes_per_step: max_adapter_bytes,
            ..CONFIG
        };
        let limits = RunnerLimits { max_rows: max_rows.max(8), max_logit_rows, num_blocks, ..LIMITS };
        let mut lab = Lab::with(config, limits);
        let mut watches = Vec::new();
        let mut is_first = true;
        for arrival in &arrivals {
            for _ in 0..arrival.after {
                if !is_first && lab.stats().num_running > 0 {
                    lab.step();
                }
            }
            is_first = false;
            let mut job = job(arrival.num_prompt, arrival.max_tokens);
            job.tenant = TenantId::from_stored(arrival.tenant.to_string());
            let common = (0..arrival.num_common.min(arrival.num_prompt)).map(|place| (place % 5) as TokenId);
            job.prompt.splice(..common.len(), common.collect::<Vec<_>>());
            job.prompt_logprobs = arrival.scored.then_some(0);
            let adapters: Vec<_> = arrival.adapter.iter().map(|name| (adapter(&name.to_string()), 1.0)).collect();
            watches.push((lab.submit_with(job, adapters.clone()), adapters));
        }
        for ((watch, _), arrival) in watches.iter().zip(&arrivals) {
            if arrival.cancel {
                lab.cancel(watch);
            }
        }
        let trace = lab.run();
        // The oldest moves in each step. A bound on the work: every row once per preemption and once more.
        let rows: usize = arrivals.iter().map(|arrival| arrival.num_prompt + arrival.max_tokens as usize).sum();
        let bound = (rows + arrivals.len()) * (1 + lab.stats().num_preempted as usize);
        prop_assert!(trace.len() <= bound, "{} steps for {} rows", trace.len(), rows);
        for ((watch, adapters), arrival) in watches.iter_mut().zip(&arrivals) {
            let expected = answer(&watch.job.prompt, adapters, arrival.max_tokens as usize);
            let tokens = watch.tokens();
            let ended = watch.ended();
            prop_assert_eq!(ended.usage.completion_tokens as usize, tokens.len());
            if ended.outcome == Ok(FinishReason::Cancelled) {
                prop_assert!(arrival.cancel && expected.starts_with(&tokens));
            } else {
                prop_assert_eq!(ended.outcome, Ok(FinishReason::Length));
                prop_assert_eq!(tokens, expected);
                prop_assert_eq!(watch.prompt_logprobs().len(), if arrival.scored { arrival.num_prompt } else { 0 });
            }
        }
    }
}
