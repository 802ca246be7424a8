//! K and V beside adapters, in one memory.

use std::time::Duration;

use souk_protocol::{FinishReason, GenerateJob, JobFailure};
use souk_runner::RunnerLimits;
use souk_runner::scripted::{Script, ScriptedRunner, answer};

use super::lab::*;
use crate::device_memory::{DeviceMemory, MemoryConfig, PAGE_BYTES, Side, SideLimits};
use crate::{Engine, EngineError, EngineRequest, Rejected};

/// A pool of 24 pages, of which a KV block takes one.
fn memory(kv_floor: usize) -> (DeviceMemory, RunnerLimits) {
    let floor = |pages: usize| SideLimits { floor_bytes: pages * PAGE_BYTES, cap_bytes: None };
    let config = MemoryConfig { total_bytes: 24 * PAGE_BYTES, kv: floor(kv_floor), adapters: floor(2) };
    let memory = DeviceMemory::new(config).unwrap();
    let num_blocks = memory.most(Side::Kv);
    assert_eq!(num_blocks, 22);
    (memory, RunnerLimits { num_blocks, ..LIMITS })
}

fn job_with(prompt: std::ops::Range<u32>, max_tokens: u32) -> GenerateJob {
    GenerateJob { prompt: prompt.map(|token| token % 60).collect(), ..job(1, max_tokens) }
}

#[test]
fn blocks_are_paid_for_when_they_are_used_and_given_up_when_adapters_ask() {
    let (memory, limits) = memory(2);
    let mut lab = Lab::in_memory(memory.clone(), limits);
    let first = lab.submit(job_with(0..100, 2));
    lab.run();
    assert_eq!(first.tokens(), answer(&first.job.prompt, &[], 2));
    assert_eq!((memory.used(Side::Kv), lab.stats().num_idle_blocks), (7, 6), "kept while nobody asks");
    assert!(memory.take(Side::Adapters, 14) && !memory.take(Side::Adapters, 6));
    memory.ask(Side::Adapters, 6);
    lab.give_way();
    assert_eq!(memory.used(Side::Kv), 4, "the free block and the tail of what is idle");
    assert!(memory.take(Side::Adapters, 6));
    // The head is still there and is found; there is no memory for more than the four blocks.
    let mut again = lab.submit(job_with(0..49, 2));
    while !lab.is_idle() {
        lab.step();
    }
    assert_eq!(again.tokens(), answer(&again.job.prompt, &[], 2));
    assert_eq!((again.ended().usage.cached_tokens, memory.used(Side::Kv)), (48, 4));
}

#[test]
fn adapters_are_asked_for_memory_before_anybody_has_to_give_way() {
    let (memory, limits) = memory(4);
    let mut lab = Lab::in_memory(memory.clone(), limits);
    assert!(memory.take(Side::Adapters, 20));
    let watches = [lab.submit(job_with(0..20, 40)), lab.submit(job_with(5..25, 40))];
    lab.step();
    lab.step();
    assert!(memory.wanted(Side::Kv) > 0 && memory.owes(Side::Adapters) > 0);
    // Adapters that are idle leave as soon as they are asked.
    while !lab.is_idle() {
        memory.give_back(Side::Adapters, memory.owes(Side::Adapters));
        lab.step();
    }
    assert_eq!((lab.stats().num_preempted, memory.wanted(Side::Kv)), (0, 0), "and nothing is wanted at the end");
    assert!(memory.used(Side::Adapters) < 20);
    for watch in watches {
        assert_eq!(watch.tokens(), answer(&watch.job.prompt, &[], 40));
    }
}

#[test]
fn where_adapters_give_nothing_the_youngest_gives_way() {
    let (memory, limits) = memory(4);
    let mut lab = Lab::in_memory(memory.clone(), limits);
    assert!(memory.take(Side::Adapters, 20));
    let watches = [lab.submit(job_with(0..10, 40)), lab.submit(job_with(5..15, 40))];
    while !lab.is_idle() {
        lab.step();
    }
    assert!(lab.stats().num_preempted > 0);
    for watch in watches {
        assert_eq!(watch.tokens(), answer(&watch.job.prompt, &[], 40));
    }
}

#[tokio::test]
async fn an_idle_engine_gives_way_and_what_exceeds_the_floor_is_refused() {
    let (memory, limits) = memory(4);
    let runner = Box::new(ScriptedRunner::new(limits, Script::default()));
    let (engine, _thread) = Engine::start(memory.clone(), runner, CONFIG).unwrap();
    assert_eq!((engine.limits().num_blocks, engine.limits().context_length), (4, 64));
    let request = |job| EngineRequest { job, adapters: vec![], constraint: None, sink: Box::new(Reader::default()) };
    let Err(Rejected { error: EngineError::Refused(failure), .. }) = engine.submit(request(job(70, 1))) else {
        panic!("it was taken")
    };
    assert!(matches!(failure, JobFailure::TooLarge { needed: 71, available: 64, .. }), "{failure}");
    let mut generations: Vec<_> = (0..4).map(|more| engine.submit(request(job(50 + more, 9))).unwrap()).collect();
    for generation in &mut generations {
        assert_eq!(generation.ended().await.outcome, Ok(FinishReason::Length));
    }
    assert!(memory.used(Side::Kv) >= 12);
    assert!(memory.take(Side::Adapters, memory.available(Side::Adapters)));
    memory.ask(Side::Adapters, 5);
    while !memory.take(Side::Adapters, 5) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
