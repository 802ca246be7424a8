use std::sync::atomic::Ordering;
use std::time::Duration;

use souk_protocol::{FinishReason, JobEvent, JobFailure, Usage};
use souk_runner::RunnerLimits;
use souk_runner::scripted::{POISON, answer};

use super::lab::*;
use crate::{EngineConfig, EngineError};

#[test]
fn an_eos_token_ends_the_answer_and_is_counted() {
    let mut lab = Lab::new();
    let mut stopped = job(5, 50);
    let expected = answer(&stopped.prompt, &[], 50);
    let eos = *expected[3..].iter().find(|token| !expected[..3].contains(token)).unwrap();
    let length = expected.iter().position(|token| *token == eos).unwrap() + 1;
    stopped.eos_tokens = vec![POISON, eos];
    let mut watch = lab.submit(stopped);
    lab.run();
    assert_eq!(watch.tokens(), expected[..length]);
    let usage = Usage { prompt_tokens: 5, cached_tokens: 0, completion_tokens: length as u32, prefill_began: true };
    let ended = watch.ended();
    assert_eq!((ended.outcome, ended.usage), (Ok(FinishReason::Stop), usage));
    let events = watch.reader.events.lock().unwrap();
    assert_eq!(events.first(), Some(&JobEvent::Started));
    assert_eq!(events.last(), Some(&JobEvent::Finished { reason: FinishReason::Stop, usage }));
    assert_eq!(events.iter().filter(|event| event.is_last()).count(), 1);
}

#[test]
fn the_contexts_end_ends_the_answer() {
    let mut lab = Lab::new();
    let mut watch = lab.submit(job(LIMITS.context_length - 3, 50));
    lab.run();
    assert_eq!(watch.tokens().len(), 3);
    assert_eq!(watch.ended().outcome, Ok(FinishReason::Length));
}

#[test]
fn a_cancelled_generation_is_out_at_the_next_step_and_its_blocks_are_free() {
    let mut lab = Lab::new();
    let mut first = lab.submit(job(20, 100));
    let mut second = lab.submit(job(21, 100));
    lab.steps(4);
    let held = lab.stats().num_blocks - lab.stats().num_free_blocks;
    lab.cancel(&first);
    assert!(!lab.step().contains("0:"));
    assert_eq!(lab.stats().num_blocks - lab.stats().num_free_blocks, held / 2);
    let ended = first.ended();
    assert_eq!(ended.outcome, Ok(FinishReason::Cancelled));
    assert_eq!(ended.usage.completion_tokens as usize, first.tokens().len());
    assert!(second.is_running());
}

#[test]
fn a_generation_whose_reader_left_is_out_within_the_step() {
    let mut lab = Lab::with(EngineConfig { max_sequences: 1, ..CONFIG }, LIMITS);
    let mut running = lab.submit(job(3, 100));
    let mut waiting = lab.submit(job(3, 100));
    let third = lab.submit(job(3, 2));
    lab.steps(2);
    running.reader.leave();
    waiting.reader.leave();
    assert_eq!(lab.run(), ["2:0..3", "2:3"]);
    assert_eq!(running.ended().outcome, Ok(FinishReason::Cancelled));
    assert_eq!(waiting.ended().outcome, Ok(FinishReason::Cancelled), "also if it has not begun");
    assert_eq!(third.tokens(), answer(&third.job.prompt, &[], 2));
}

#[test]
fn a_deadline_ends_what_runs_and_what_waits() {
    let mut lab = Lab::with(EngineConfig { max_sequences: 1, ..CONFIG }, LIMITS);
    let mut hurried = job(3, 100);
    hurried.time_left = Some(Duration::from_secs(60));
    let mut running = lab.submit(hurried.clone());
    let mut waiting = lab.submit(hurried);
    let mut patient = lab.submit(job(3, 2));
    lab.steps(3);
    assert!(running.is_running());
    lab.now += Duration::from_secs(61);
    assert_eq!(lab.run(), ["2:0..3", "2:3"]);
    for late in [&mut running, &mut waiting] {
        assert_eq!(late.ended().outcome, Err(JobFailure::DeadlineExceeded));
        assert!(!late.reader.events.lock().unwrap().iter().any(JobEvent::is_last), "the last event is the caller's");
    }
    assert_eq!(patient.ended().outcome, Ok(FinishReason::Length));
}

#[test]
fn a_value_that_is_not_finite_ends_its_own_request_only() {
    let mut lab = Lab::new();
    let mut poisoned = job(6, 5);
    poisoned.prompt[5] = POISON;
    let mut poisoned = lab.submit(poisoned);
    let mut sound = lab.submit(job(6, 5));
    lab.run();
    assert_eq!(poisoned.ended().outcome, Err(JobFailure::NotFinite { position: 5 }));
    assert_eq!(sound.ended().outcome, Ok(FinishReason::Length));
    assert_eq!(sound.tokens(), answer(&sound.job.prompt, &[], 5));
}

#[test]
fn a_step_that_fails_ends_its_sequences_and_the_engine_goes_on() {
    let mut lab = Lab::with(EngineConfig { max_sequences: 2, ..CONFIG }, LIMITS);
    let mut watches: Vec<_> = (0..3).map(|_| lab.submit(job(4, 3))).collect();
    lab.step();
    lab.script.fail_next.store(true, Ordering::SeqCst);
    lab.run();
    for watch in &mut watches[..2] {
        assert!(matches!(watch.ended().outcome, Err(JobFailure::Internal(reason)) if reason.contains("scripted")));
    }
    assert_eq!(watches[2].ended().outcome, Ok(FinishReason::Length));
}

#[test]
fn what_can_never_fit_is_refused_with_the_numbers() {
    let mut lab = Lab::with(CONFIG, RunnerLimits { num_blocks: 4, ..LIMITS });
    let mut refusal = |job| match lab.try_submit(job, Vec::new()) {
        Err(EngineError::Refused(JobFailure::TooLarge { unit, needed, available })) => (unit, needed, available),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was taken"),
    };
    assert_eq!(refusal(job(60, 6)), ("KV blocks".to_owned(), 5, 4));
    assert_eq!(refusal(job(256, 1)), ("tokens of context".to_owned(), 257, 256));
    let mut exact = lab.submit(job(60, 5));
    lab.run();
    assert_eq!(exact.ended().outcome, Ok(FinishReason::Length));
}

#[test]
fn a_full_engine_says_so() {
    let mut lab = Lab::with(EngineConfig { max_requests: 2, ..CONFIG }, LIMITS);
    let _running = [lab.submit(job(3, 2)), lab.submit(job(3, 2))];
    assert!(matches!(lab.try_submit(job(3, 2), Vec::new()), Err(EngineError::Full { limit: 2 })));
    lab.run();
    lab.submit(job(3, 2));
    lab.run();
}

#[test]
fn an_answer_that_was_complete_already_only_ends() {
    let mut lab = Lab::new();
    let mut full = job(3, 2);
    full.resume = answer(&full.prompt, &[], 2);
    let mut stopped = job(3, 9);
    stopped.resume = vec![4, 5];
    stopped.eos_tokens = vec![5];
    let (mut full, mut stopped) = (lab.submit(full), lab.submit(stopped));
    assert_eq!(lab.run(), [""]);
    assert_eq!(full.ended().outcome, Ok(FinishReason::Length));
    assert_eq!(stopped.ended().outcome, Ok(FinishReason::Stop));
}
