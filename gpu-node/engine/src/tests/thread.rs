//! The engine on its own thread.

use std::sync::atomic::Ordering;
use std::time::Duration;

use souk_protocol::{FinishReason, JobFailure};
use souk_runner::scripted::{Script, ScriptedRunner, answer};

use super::lab::*;
use crate::device_memory::{DeviceMemory, PAGE_BYTES};
use crate::{Engine, EngineError, EngineRequest, Rejected};

fn start() -> (Engine, std::thread::JoinHandle<()>, Script) {
    let script = Script::default();
    let memory = DeviceMemory::split(LIMITS.num_blocks * PAGE_BYTES, PAGE_BYTES).unwrap();
    let runner = Box::new(ScriptedRunner::new(LIMITS, script.clone()));
    let (engine, thread) = Engine::start(memory, runner, CONFIG).unwrap();
    (engine, thread, script)
}

fn request(num_prompt: usize, max_tokens: u32) -> (EngineRequest, Reader) {
    let reader = Reader::default();
    (
        EngineRequest {
            job: job(num_prompt, max_tokens),
            adapters: vec![],
            constraint: None,
            sink: Box::new(reader.clone()),
        },
        reader,
    )
}

fn is_stopping(engine: &Engine) -> bool {
    matches!(engine.submit(request(3, 3).0), Err(Rejected { error: EngineError::Stopping, .. }))
}

#[tokio::test]
async fn draining_finishes_what_runs_and_refuses_what_comes() {
    let (engine, thread, _) = start();
    let (first, _) = request(10, 100);
    let mut first = engine.submit(first).unwrap();
    engine.drain();
    assert!(is_stopping(&engine));
    let ended = first.ended().await;
    assert_eq!((ended.outcome, ended.usage.completion_tokens), (Ok(FinishReason::Length), 100));
    assert_eq!(first.num_generated(), 100);
    thread.join().unwrap();
    assert!(!engine.is_open());
}

#[tokio::test]
async fn the_thread_ends_when_the_last_handle_is_gone() {
    let (engine, thread, _) = start();
    drop(engine.clone());
    let mut generation = engine.submit(request(4, 4).0).unwrap();
    drop(engine);
    assert_eq!(generation.ended().await.outcome, Ok(FinishReason::Length));
    thread.join().unwrap();
}

#[tokio::test]
async fn dropping_a_generation_takes_it_out_of_the_batch() {
    let (engine, _thread, _) = start();
    let mut other = engine.submit(request(5, 200).0).unwrap();
    let (request, _reader) = request(5, 200);
    drop(engine.submit(request).unwrap());
    assert_eq!(other.ended().await.outcome, Ok(FinishReason::Length));
    while engine.stats().num_running > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(engine.stats().num_generated < 400, "the dropped one did not run to its end");
    assert_eq!(engine.stats().num_free_blocks, LIMITS.num_blocks);
}

#[tokio::test]
async fn an_idle_engine_takes_no_steps_and_wakes_up_for_work() {
    let (engine, _thread, _) = start();
    for round in 1..=3 {
        let (request, _reader) = request(4, 2);
        let expected = answer(&request.job.prompt, &[], 2).len();
        let mut generation = engine.submit(request).unwrap();
        assert_eq!(generation.ended().await.usage.completion_tokens as usize, expected);
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(engine.stats().num_steps, round * 2);
    }
}

#[tokio::test]
async fn nobody_waits_for_an_engine_that_died() {
    let (engine, thread, script) = start();
    script.panic_next.store(true, Ordering::SeqCst);
    let mut generation = engine.submit(request(4, 2).0).unwrap();
    let ended = generation.ended().await;
    assert!(matches!(ended.outcome, Err(JobFailure::Internal(_))) && ended.sink.is_none());
    assert!(thread.join().is_err());
    assert!(is_stopping(&engine));
}
