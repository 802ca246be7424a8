use souk_protocol::{FinishReason, SamplingParams};
use souk_runner::RunnerLimits;
use souk_runner::scripted::{adapter, answer};

use super::lab::*;
use crate::EngineConfig;

#[test]
fn running_answers_keep_their_pace_while_a_long_prompt_comes_in() {
    let mut lab = Lab::new();
    let short = lab.submit(job(4, 9));
    assert_eq!(lab.steps(2), ["0:0..4", "0:4"]);
    let long = lab.submit(job(30, 2));
    // Eight rows of the prompt beside each decode row, as configured; none of the answer's steps is skipped.
    let trace = ["0:5 1:0..8", "0:6 1:8..16", "0:7 1:16..24", "0:8 1:24..30", "0:9 1:30", "0:10", "0:11"];
    assert_eq!(lab.run(), trace);
    assert_eq!(short.tokens(), answer(&short.job.prompt, &[], 9));
    assert_eq!(long.tokens(), answer(&long.job.prompt, &[], 2));
}

#[test]
fn a_prompt_alone_takes_the_whole_step() {
    let mut lab = Lab::new();
    lab.submit(job(70, 1));
    assert_eq!(lab.run(), ["0:0..32", "0:32..64", "0:64..70"]);
}

#[test]
fn a_short_prompt_is_not_stuck_behind_a_long_one() {
    let mut lab = Lab::new();
    lab.submit(job(100, 1));
    lab.submit(job(10, 1));
    lab.submit(job(3, 1));
    // The long one has half of the step while others wait, the next half of the rest.
    assert_eq!(lab.steps(3), ["0:0..16 1:0..8 2:0..3", "0:16..32 1:8..10", "0:32..64"]);
}

#[test]
fn rows_of_the_same_adapters_are_adjacent_and_make_one_run() {
    let mut lab = Lab::new();
    let (a, b) = (adapter("a"), adapter("b"));
    let sets = [
        vec![(a.clone(), 1.0)],
        vec![],
        vec![(b.clone(), 1.0)],
        // Another load of the same adapter is the same adapter.
        vec![(adapter("a"), 1.0)],
        vec![(a.clone(), 0.5)],
        vec![(a.clone(), 1.0), (b.clone(), 1.0)],
    ];
    let mut watches: Vec<_> = sets.iter().map(|set| lab.submit_with(job(3, 4), set.clone())).collect();
    lab.run();
    let runs = lab.script.adapter_runs.lock().unwrap().clone();
    let decode =
        runs.iter().find(|step| step.split(' ').count() == 4 && step.starts_with("1..")).expect("a decode step");
    let mut lengths: Vec<_> = decode
        .split(' ')
        .map(|run| run.replace("..", " ").replace('x', " "))
        .map(|run| {
            let numbers: Vec<usize> = run.split(' ').map(|number| number.parse().unwrap()).collect();
            (numbers[1] - numbers[0], numbers[2])
        })
        .collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [(1, 1), (1, 1), (1, 2), (2, 1)], "the base row stands first, outside of all runs: {decode}");
    for (watch, set) in watches.iter_mut().zip(&sets) {
        assert_eq!(watch.tokens(), answer(&watch.job.prompt, set, 4));
    }
    assert_ne!(watches[0].tokens(), watches[4].tokens(), "the weight matters");
}

#[test]
fn the_youngest_gives_way_when_blocks_run_out_and_its_answer_is_the_same() {
    let limits = RunnerLimits { num_blocks: 5, ..LIMITS };
    let mut lab = Lab::with(CONFIG, limits);
    let mut watches: Vec<_> = (0..2).map(|number| lab.submit(job(14 + number, 40))).collect();
    let trace = lab.run();
    assert!(trace.iter().any(|step| step.starts_with("-1 ")), "{trace:?}");
    assert!(!trace.iter().any(|step| step.contains("-0")), "the oldest is no victim: {trace:?}");
    assert!(lab.stats().num_preempted > 0);
    for watch in &mut watches {
        assert_eq!(watch.tokens(), answer(&watch.job.prompt, &[], 40));
        assert_eq!(watch.ended().outcome, Ok(FinishReason::Length));
    }
}

#[test]
fn sequences_beyond_the_batch_wait_and_come_in_order() {
    let mut lab = Lab::with(EngineConfig { max_sequences: 2, ..CONFIG }, LIMITS);
    for _ in 0..4 {
        lab.submit(job(2, 2));
    }
    assert_eq!(lab.run(), ["0:0..2 1:0..2", "0:2 1:2", "2:0..2 3:0..2", "2:2 3:2"]);
}

#[test]
fn chunk_sizes_change_no_token() {
    let sampling = SamplingParams { temperature: 0.9, top_p: 0.95, seed: 11, ..SamplingParams::greedy() };
    let run = |max_rows: usize, max_prefill_rows_beside_decode: usize| {
        let config = EngineConfig {
            max_batch_tokens: max_rows,
            max_prefill_tokens_beside_decode: max_prefill_rows_beside_decode,
            ..CONFIG
        };
        let mut lab = Lab::with(config, LIMITS);
        let jobs = [20, 45, 1, 33].map(|num_prompt| {
            let mut job = job(num_prompt, 12);
            job.sampling = sampling.clone();
            job
        });
        let watches = jobs.map(|job| lab.submit(job));
        lab.run();
        watches.map(|watch| watch.tokens())
    };
    let whole = run(64, 64);
    assert!(whole.iter().all(|tokens| tokens.len() == 12));
    for (max_rows, beside_decode) in [(1, 1), (5, 2), (17, 16), (32, 3)] {
        assert_eq!(run(max_rows, beside_decode), whole, "{max_rows} rows");
    }
}

#[test]
fn an_answer_goes_on_where_another_attempt_left_it() {
    let mut lab = Lab::new();
    let mut job = job(9, 10);
    job.sampling = SamplingParams {
        temperature: 1.0,
        seed: 5,
        repetition_penalty: 1.2,
        presence_penalty: 0.3,
        ..SamplingParams::greedy()
    };
    let mut whole = lab.submit(job.clone());
    lab.run();
    job.resume = whole.tokens()[..6].to_vec();
    let mut rest = lab.submit(job);
    lab.run();
    assert_eq!(rest.tokens(), whole.tokens());
    assert_eq!(rest.reader.events.lock().unwrap().len(), 1 + 4 + 1, "only the last four tokens are sent");
    assert_eq!(rest.ended().usage, whole.ended().usage);
}
