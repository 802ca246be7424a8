//! Between tenants, between adapters, and between prompts and answers.

use std::collections::HashMap;

use proptest::prelude::*;
use souk_protocol::{GenerateJob, TenantId};
use souk_runner::RunnerLimits;
use souk_runner::scripted::{ADAPTER_BYTES, adapter, answer};

use super::lab::*;
use crate::EngineConfig;

fn job_of(tenant: &str, num_prompt: usize, max_tokens: u32) -> GenerateJob {
    GenerateJob { tenant: TenantId::from_stored(tenant), ..job(num_prompt, max_tokens) }
}

/// Whether a step has rows of this sequence.
fn runs(step: &str, sequence: u64) -> bool {
    step.split(' ').any(|part| part.starts_with(&format!("{sequence}:")))
}

/// Rows that a step has of this sequence.
fn num_rows(step: &str, sequence: u64) -> usize {
    let of_part = |part: &str| {
        let (_, positions) = part.split_once(':').filter(|(id, _)| *id == sequence.to_string())?;
        let Some((first, end)) = positions.split_once("..") else { return Some(1) };
        Some(end.parse::<usize>().unwrap() - first.parse::<usize>().unwrap())
    };
    step.split(' ').filter_map(of_part).sum()
}

#[test]
fn a_full_batch_makes_way_for_another_tenants_first_sequence_at_once() {
    let mut lab = Lab::with(EngineConfig { max_sequences: 4, ..CONFIG }, LIMITS);
    let flood: Vec<_> = (0..10).map(|_| lab.submit(job_of("flood", 5, 30))).collect();
    lab.steps(4);
    let other = lab.submit(job_of("other", 4, 2));
    assert_eq!(lab.step(), "-3 0:8 1:8 2:8 10:0..4");
    assert_eq!(lab.step(), "0:9 1:9 2:9 10:4");
    assert_eq!(other.tokens(), answer(&other.job.prompt, &[], 2));
    // The one that made way is at the front of its tenant's line again.
    assert!(runs(&lab.step(), 3));
    lab.run();
    for watch in flood {
        assert_eq!(watch.tokens(), answer(&watch.job.prompt, &[], 30));
    }
    assert_eq!(lab.stats().num_preempted, 1);
}

#[test]
fn a_tenants_second_sequence_waits_for_a_place() {
    let mut lab = Lab::with(EngineConfig { max_sequences: 3, ..CONFIG }, LIMITS);
    for _ in 0..5 {
        lab.submit(job_of("flood", 5, 12));
    }
    lab.steps(2);
    lab.submit(job_of("other", 4, 4));
    lab.submit(job_of("other", 4, 4));
    let trace = lab.run();
    let first = |sequence| trace.iter().position(|step| runs(step, sequence)).unwrap();
    assert_eq!(first(5), 0);
    // A place comes free when 5 ends; the tenant with the fewest comes first, and that is 6 of the other tenant again.
    assert!(first(6) > 3 && first(6) < first(3), "{trace:?}");
    assert_eq!(lab.stats().num_preempted, 1);
}

#[test]
fn every_newcomer_enters_at_once_and_a_tenants_oldest_never_makes_way() {
    let mut lab = Lab::with(EngineConfig { max_sequences: 2, ..CONFIG }, LIMITS);
    let flood: Vec<_> = (0..2).map(|_| lab.submit(job_of("flood", 5, 60))).collect();
    lab.steps(2);
    for number in 0..6 {
        let other = lab.submit(job_of(&format!("other {number}"), 5, 3));
        for step in lab.steps(4) {
            assert!(runs(&step, 0) && !step.contains("-0"), "{step}");
        }
        assert_eq!(other.tokens().len(), 3, "the {number}th");
    }
    lab.run();
    assert_eq!(lab.stats().num_preempted, 6);
    for watch in flood {
        assert_eq!(watch.tokens(), answer(&watch.job.prompt, &[], 60));
    }
}

/// The engine's usual proportions: 8,700 tokens of K and V and steps of 48 rows.
fn usual() -> Lab {
    let limits = RunnerLimits {
        max_rows: 48,
        max_logit_rows: 64,
        num_blocks: 546,
        vocab_size: LIMITS.vocab_size,
        context_length: 8192,
    };
    let config = EngineConfig {
        max_sequences: 32,
        max_requests: 96,
        max_batch_tokens: 48,
        max_prefill_tokens_beside_decode: 48,
        max_logit_rows: 64,
        ..CONFIG
    };
    Lab::with(config, limits)
}

/// Steps until the first token of a request, from when it was handed in.
fn steps_to_first_token(lab: &mut Lab, watch: &Watch) -> usize {
    (1..=200)
        .find(|_| {
            lab.step();
            !watch.tokens().is_empty()
        })
        .expect("it begins")
}

#[test]
fn a_short_request_begins_within_four_steps_whatever_long_prompts_others_hold() {
    // One tenant with many, several tenants with one each, and both; the longest prompt takes all blocks but the
    // reserve.
    for (what, tenants, each) in
        [("20 of one tenant", 1, 20), ("1 of one tenant", 1, 1), ("1 of 6 tenants", 6, 1), ("5 of 4 tenants", 4, 5)]
    {
        let mut lab = usual();
        for number in 0..tenants * each {
            lab.submit(job_of(&format!("flood {}", number % tenants), 8000 + number, 150));
        }
        let mut steps = Vec::new();
        // While the first prompt is computed, as it answers, and as the next one begins.
        for pause in [1, 10, 50, 100, 5, 3, 20, 30, 40] {
            lab.steps(pause);
            let short = lab.submit(job_of("other", 6, 4));
            steps.push(steps_to_first_token(&mut lab, &short));
        }
        println!("8,000 tokens each, {what}: first token of 6 tokens after {steps:?} steps");
        assert!(steps.iter().all(|steps| *steps <= 4), "{what}: {steps:?}");
    }
}

/// Hands in a request for each of so many tenants that has none: they never end all at once.
fn keep_asking(lab: &mut Lab, asking: &mut Vec<Watch>, num_tenants: usize, step: usize) {
    asking.retain(|watch| watch.tokens().len() < watch.job.max_tokens as usize);
    for number in 0..num_tenants {
        let tenant = format!("asks {number}");
        if !asking.iter().any(|watch| watch.job.tenant.as_str() == tenant) {
            asking.push(lab.submit(job_of(&tenant, 6, 3 + ((number + step) % 7) as u32)));
        }
    }
}

#[test]
fn the_longest_prompt_begins_however_many_short_requests_come_and_go() {
    // All of the 64 blocks but the reserve of 4.
    let (num_prompt, limits) = (959, RunnerLimits { context_length: 960, ..LIMITS });
    let config = EngineConfig { max_sequences: 16, max_prefill_tokens_beside_decode: 32, ..CONFIG };
    for num_tenants in [1, 2, 8, 20] {
        let mut lab = Lab::with(config, limits);
        let (mut asking, mut long) = (Vec::new(), None);
        for step in 0..300 {
            keep_asking(&mut lab, &mut asking, num_tenants, step);
            if step == 20 {
                long = Some(lab.submit(job_of("long", num_prompt, 1)));
            }
            lab.step();
        }
        assert_eq!(long.expect("it came").tokens().len(), 1, "beside {num_tenants} tenants");
    }
}

#[test]
fn prompts_of_two_tenants_take_turns() {
    let mut lab = Lab::new();
    for number in 0..7 {
        lab.submit(job_of("flood", 200 + number, 2));
    }
    lab.steps(2);
    lab.submit(job_of("other", 30, 2));
    let step = lab.step();
    assert!(step.contains("7:0..16"), "half of the step is the other tenant's: {step}");
}

#[test]
fn a_lone_prompt_gets_its_share_of_a_step_that_is_full_of_anothers_answers() {
    let mut lab = Lab::with(EngineConfig { max_batch_tokens: 8, max_sequences: 8, ..CONFIG }, LIMITS);
    let flood: Vec<_> = (0..8).map(|_| lab.submit(job_of("flood", 2, 40))).collect();
    lab.steps(4);
    let other = lab.submit(job_of("other", 7, 2));
    // Sequence 7 has made way. Of the seven left four have a row, and then those first that had none.
    assert_eq!(lab.step(), "-7 0:5 1:5 2:5 3:4 8:0..4");
    assert_eq!(lab.step(), "0:6 1:6 4:4 5:4 6:3 8:4..7");
    assert_eq!(other.tokens().len(), 1);
    let trace = lab.run();
    assert!(trace[..30].iter().all(|step| step.split(' ').count() == 8), "no row is left empty: {trace:?}");
    for watch in flood {
        assert_eq!(watch.tokens(), answer(&watch.job.prompt, &[], 40));
    }
}

#[test]
fn rows_kept_for_a_prompt_that_waits_for_a_block_are_not_lost() {
    let mut lab = Lab::with(EngineConfig { max_batch_tokens: 8, max_sequences: 8, ..CONFIG }, LIMITS);
    (0..6).for_each(|_| drop(lab.submit(job_of("flood", 2, 60))));
    lab.steps(8);
    // Both prompts of 40 tokens are the same: the second leaves its blocks to the first, and its rows to the answers.
    lab.submit(job_of("other", 40, 2));
    lab.submit(job_of("other", 40, 2));
    for step in lab.steps(6) {
        let num_rows: usize = (0..8).map(|sequence| num_rows(&step, sequence)).sum();
        assert_eq!(num_rows, 8, "{step}");
    }
}

#[test]
fn blocks_run_out_at_the_cost_of_the_tenant_with_the_most() {
    let mut lab = Lab::with(CONFIG, RunnerLimits { num_blocks: 10, ..LIMITS });
    let flood: Vec<_> = (0..3).map(|_| lab.submit(job_of("flood", 17, 60))).collect();
    let other = lab.submit(job_of("other", 20, 60));
    let trace = lab.run();
    assert!(lab.stats().num_preempted > 0);
    assert!(!trace.iter().any(|step| step.contains("-3")), "the youngest is the only one of its tenant: {trace:?}");
    for watch in flood.iter().chain([&other]) {
        assert_eq!(watch.tokens(), answer(&watch.job.prompt, &[], 60));
    }
}

#[test]
fn a_step_reads_no_more_bytes_of_adapters_than_it_may_and_all_take_turns() {
    let run = |num_fitting: usize| {
        let config = EngineConfig { max_adapter_bytes_per_step: num_fitting * ADAPTER_BYTES, ..CONFIG };
        let mut lab = Lab::with(config, LIMITS);
        let mut watches = vec![(lab.submit(job(2, 12)), vec![])];
        for name in 0..6 {
            let set = vec![(adapter(&name.to_string()), 1.0)];
            watches.push((lab.submit_with(job(2, 12), set.clone()), set));
        }
        let trace = lab.run();
        for (watch, set) in &watches {
            assert_eq!(watch.tokens(), answer(&watch.job.prompt, set, 12));
        }
        let most = lab.script.adapter_runs.lock().unwrap().iter().map(|step| step.split(' ').count()).max();
        assert_eq!(most, Some(num_fitting.clamp(1, 6)), "a single one runs even if it is above the bound");
        trace
    };
    assert_eq!(run(6).len(), 12);
    let trace = run(2);
    // Six adapters, two a step: each runs in every third step, and the base in every one.
    for steps in trace[3..30].windows(3) {
        assert!((1..=6).all(|sequence| steps.iter().any(|step| runs(step, sequence))), "{steps:?}");
    }
    assert!(trace[..12].iter().all(|step| runs(step, 0)));
    assert_eq!(run(0).len(), run(1).len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// However full the engine is of one tenant, another's first sequence has rows in the next step.
    #[test]
    fn a_newcomer_runs_in_the_next_step(
        flood in prop::collection::vec((1..50_usize, 1..50_u32), 1..24),
        max_sequences in 2..8_usize,
        num_blocks in 16..64_usize,
        num_steps in 1..30_usize,
        num_prompt in 1..50_usize,
    ) {
        let mut lab = Lab::with(EngineConfig { max_sequences, ..CONFIG }, RunnerLimits { num_blocks, ..LIMITS });
        let watches: Vec<_> = flood.iter().map(|(prompt, tokens)| lab.submit(job_of("flood", *prompt, *tokens))).collect();
        for _ in 0..num_steps {
            if !lab.is_idle() {
                lab.step();
            }
        }
        let newcomer = lab.submit(job_of("other", num_prompt, 3));
        let step = lab.step();
        prop_assert!(runs(&step, flood.len() as u64), "{step}");
        lab.run();
        for watch in watches.iter().chain([&newcomer]) {
            prop_assert_eq!(watch.tokens(), answer(&watch.job.prompt, &[], watch.job.max_tokens as usize));
        }
    }

    /// A lone request's first token is as many steps away as its prompt has shares of rows, whatever another tenant has
    /// in the batch; and that one's answers take turns. Its prompts are computed in order: one sits out only where an
    /// older one has rows (it may compute a block for both), or where the tenant has had its share of the step.
    #[test]
    fn a_lone_request_waits_for_its_own_prompt_alone(
        flood in prop::collection::vec((1..30_usize, 10..80_u32), 1..24),
        max_sequences in 2..16_usize,
        spare_rows in 0..8_usize,
        num_steps in 1..30_usize,
        num_prompt in 1..50_usize,
    ) {
        let max_rows = max_sequences + spare_rows;
        let config = EngineConfig { max_sequences, max_batch_tokens: max_rows, max_prefill_tokens_beside_decode: max_rows, ..CONFIG };
        let mut lab = Lab::with(config, RunnerLimits { num_blocks: 200, ..LIMITS });
        let watches: Vec<_> = flood.iter().map(|(prompt, tokens)| lab.submit(job_of("flood", *prompt, *tokens))).collect();
        for _ in 0..num_steps {
            if !lab.is_idle() {
                lab.step();
            }
        }
        let lone = lab.submit(job_of("lone", num_prompt, 3));
        let mut sat_out = HashMap::new();
        for _ in 0..num_prompt.div_ceil(max_rows / 2) {
            if !lone.tokens().is_empty() {
                // Sooner, because the others need less than their share.
                break;
            }
            let prompts = watches.iter().filter(|watch| !lab.is_answering(watch));
            let prompts: Vec<u64> = prompts.map(|watch| watch.id.0).collect();
            let step = lab.step();
            let num_flood: usize = watches.iter().map(|watch| num_rows(&step, watch.id.0)).sum();
            for watch in watches.iter().filter(|watch| lab.is_in_batch(watch)) {
                let id = watch.id.0;
                if prompts.contains(&id) {
                    let is_behind = prompts.iter().any(|prompt| *prompt < id && runs(&step, *prompt));
                    let has_reason = is_behind || num_flood >= max_rows / 2;
                    prop_assert!(runs(&step, id) || has_reason, "{id} sat out in vain: {step}");
                } else {
                    let steps = sat_out.entry(id).or_insert(0_usize);
                    *steps = if runs(&step, id) { 0 } else { *steps + 1 };
                    prop_assert!(*steps < max_sequences, "{id} sat out {steps} steps: {step}");
                }
            }
        }
        prop_assert!(!lone.tokens().is_empty());
        lab.run();
        for watch in watches.iter().chain([&lone]) {
            prop_assert_eq!(watch.tokens(), answer(&watch.job.prompt, &[], watch.job.max_tokens as usize));
        }
    }

    /// An answer has a row in every step, whatever comes in beside it, and never more prompt rows beside it than
    /// allowed.
    #[test]
    fn answers_keep_their_pace(
        arrivals in prop::collection::vec((0..3_usize, 1..70_usize, 1..30_u32, 0..3_u8), 1..16),
        beside_decode in 1..12_usize,
    ) {
        let config = EngineConfig { max_prefill_tokens_beside_decode: beside_decode, prefix_cache: false, ..CONFIG };
        let mut lab = Lab::with(config, RunnerLimits { num_blocks: 200, ..LIMITS });
        let mut arrivals = arrivals.into_iter();
        let first = lab.submit(job_of("first", 3, 60));
        lab.step();
        for step in 0..58 {
            if step % 3 == 0 && let Some((_, prompt, tokens, tenant)) = arrivals.next() {
                lab.submit(job_of(&tenant.to_string(), prompt, tokens));
            }
            let before = lab.stats().num_prefill_rows;
            let trace = lab.step();
            prop_assert!(runs(&trace, 0), "{trace}");
            prop_assert!(lab.stats().num_prefill_rows - before <= beside_decode as u64, "{trace}");
        }
        lab.run();
        prop_assert_eq!(first.tokens(), answer(&first.job.prompt, &[], 60));
    }

    /// Whatever others hold and however often it comes: a tenant's single short request begins within four steps.
    #[test]
    fn a_short_request_begins_within_four_steps(
        holders in prop::collection::vec((0..4_u8, 1..250_usize, 1..100_u32), 1..30),
        max_sequences in 6..16_usize,
        num_blocks in 32..128_usize,
        pauses in prop::collection::vec((0..20_usize, 1..15_usize, 1..20_u32), 1..8),
    ) {
        let config = EngineConfig { max_sequences, max_prefill_tokens_beside_decode: 32, ..CONFIG };
        let mut lab = Lab::with(config, RunnerLimits { num_blocks, ..LIMITS });
        let watches: Vec<_> =
            holders.iter().map(|(tenant, prompt, tokens)| lab.submit(job_of(&tenant.to_string(), *prompt, *tokens))).collect();
        let mut shorts = Vec::new();
        for (pause, num_prompt, tokens) in pauses {
            for _ in 0..pause {
                if !lab.is_idle() {
                    lab.step();
                }
            }
            let short = lab.submit(job_of("other", num_prompt, tokens));
            let steps = steps_to_first_token(&mut lab, &short);
            prop_assert!(steps <= 4, "{steps} steps");
            // One at a time: the next comes when this one has ended or is no longer wanted.
            lab.cancel(&short);
            shorts.push(short);
        }
        lab.run();
        for watch in &watches {
            prop_assert_eq!(watch.tokens(), answer(&watch.job.prompt, &[], watch.job.max_tokens.min(256 - watch.job.prompt.len() as u32) as usize));
        }
    }

    /// Tenants that arrive in any order all end, and a tenant's oldest in the batch never makes way.
    #[test]
    fn nobody_starves(arrivals in prop::collection::vec((0..4_usize, 1..40_usize, 1..30_u32, 0..5_u8), 1..30)) {
        let limits = RunnerLimits { num_blocks: 200, ..LIMITS };
        let mut lab = Lab::with(EngineConfig { max_sequences: 3, ..CONFIG }, limits);
        let mut watches: Vec<Watch> = Vec::new();
        // Blocks do not run out, so whoever makes way does so for a newcomer.
        let check = |lab: &Lab, watches: &[Watch], step: &str| {
            for victim in step.split(' ').filter_map(|part| part.strip_prefix('-')) {
                let victim: u64 = victim.parse().unwrap();
                let tenant = &watches[victim as usize].job.tenant;
                let mut older = watches.iter().filter(|watch| watch.job.tenant == *tenant && watch.id.0 < victim);
                assert!(older.any(|watch| lab.is_in_batch(watch) || runs(step, watch.id.0)), "{victim} was its tenant's oldest: {step}");
            }
        };
        for (after, prompt, tokens, tenant) in arrivals {
            watches.push(lab.submit(job_of(&tenant.to_string(), prompt, tokens)));
            for _ in 0..after {
                if !lab.is_idle() {
                    let step = lab.step();
                    check(&lab, &watches, &step);
                }
            }
        }
        while !lab.is_idle() {
            let step = lab.step();
            check(&lab, &watches, &step);
        }
        for watch in &watches {
            prop_assert_eq!(watch.tokens(), answer(&watch.job.prompt, &[], watch.job.max_tokens as usize));
        }
    }

    /// Requests of any tenants end, whichever have to make way how often, while others ask again and again for ever.
    #[test]
    fn all_end_although_newcomers_never_end(
        holders in prop::collection::vec((0..4_u8, 1..440_usize, 1..40_u32), 1..12),
        num_asking in 1..8_usize,
        max_sequences in 2..12_usize,
    ) {
        let config = EngineConfig { max_sequences, max_prefill_tokens_beside_decode: 32, ..CONFIG };
        // The longest needs all blocks but the reserve of 2.
        let mut lab = Lab::with(config, RunnerLimits { num_blocks: 32, context_length: 480, ..LIMITS });
        let watches: Vec<_> =
            holders.iter().map(|(tenant, prompt, tokens)| lab.submit(job_of(&tenant.to_string(), *prompt, *tokens))).collect();
        let rows: usize = holders.iter().map(|(_, prompt, tokens)| prompt + *tokens as usize).sum();
        let mut asking = Vec::new();
        // Each of them alone, at a row a step, and for each a turn of those that ask.
        let most_steps = max_sequences * (rows + 50 * holders.len());
        for step in 0..most_steps {
            if watches.iter().all(|watch| !lab.is_in_batch(watch) && watch.tokens().len() == watch.job.max_tokens as usize) {
                break;
            }
            keep_asking(&mut lab, &mut asking, num_asking, step);
            lab.step();
        }
        for watch in &watches {
            prop_assert_eq!(watch.tokens(), answer(&watch.job.prompt, &[], watch.job.max_tokens as usize));
        }
    }

    /// The bound of a sequence's wait in the line, see `scheduler/admission.rs`.
    #[test]
    fn whoever_waits_is_passed_only_by_tenants_with_fewer_in_the_batch(
        arrivals in prop::collection::vec((0..4_usize, 1..40_usize, 1..30_u32, 0..5_u8), 1..40),
        max_sequences in 1..6_usize,
        num_blocks in 16..80_usize,
    ) {
        let config = EngineConfig { max_sequences, ..CONFIG };
        let mut lab = Lab::with(config, RunnerLimits { num_blocks, ..LIMITS });
        let mut watches: Vec<Watch> = Vec::new();
        let mut has_ended: Vec<bool> = Vec::new();
        let mut was_in_batch: Vec<bool> = Vec::new();
        let mut arrivals = arrivals.into_iter();
        let mut pause = 0;
        loop {
            while pause == 0 && let Some((after, prompt, tokens, tenant)) = arrivals.next() {
                watches.push(lab.submit(job_of(&tenant.to_string(), prompt, tokens)));
                has_ended.push(false);
                was_in_batch.push(false);
                pause = after;
            }
            pause = pause.saturating_sub(1);
            if lab.is_idle() {
                if arrivals.len() == 0 {
                    break;
                }
                pause = 0;
                continue;
            }
            let step = lab.step();
            for (has_ended, watch) in has_ended.iter_mut().zip(&mut watches) {
                *has_ended = *has_ended || !watch.is_running();
            }
            // Who ended in this step had a place in it.
            let in_batch: Vec<bool> = (0..watches.len()).map(|at| lab.is_in_batch(&watches[at])).collect();
            let had_place: Vec<bool> =
                (0..watches.len()).map(|at| in_batch[at] || (has_ended[at] && runs(&step, at as u64))).collect();
            let of_tenant = |members: &[bool], tenant: &TenantId| {
                watches.iter().zip(members).filter(|(watch, is_in)| **is_in && watch.job.tenant == *tenant).count()
            };
            let somebody_made_way = step.split(' ').any(|part| part.starts_with('-'));
            for waiting in (0..watches.len()).filter(|at| !had_place[*at] && !has_ended[*at] && !was_in_batch[*at]) {
                let own = &watches[waiting].job.tenant;
                for passing in (waiting + 1..watches.len()).filter(|at| had_place[*at] && !was_in_batch[*at]) {
                    let other = &watches[passing].job.tenant;
                    prop_assert!(other != own, "{passing} passed {waiting} of its own tenant: {step}");
                    // Before the step, and after those who entered in it. Who made way in between is not known, but for
                    // one whose tenant has nobody there is nobody to be passed by.
                    let (before, others, own) =
                        (of_tenant(&was_in_batch, own), of_tenant(&had_place, other), of_tenant(&had_place, own));
                    // But for those that are short enough for the reserve, see `scheduler/reserve.rs`.
                    let reserve = num_blocks / 16;
                    if reserve > 0 && (watches[passing].job.prompt.len() + 1).div_ceil(16) <= (reserve / 2).max(1) {
                        continue;
                    }
                    prop_assert!(before.max(own) > 0, "{passing} passed {waiting}, its tenant's first: {step}");
                    prop_assert!(
                        somebody_made_way || others <= own,
                        "{passing} passed {waiting}, whose tenant had {own}: {step}"
                    );
                }
            }
            was_in_batch = in_batch;
        }
        prop_assert!(has_ended.iter().all(|has_ended| *has_ended));
    }
}
