use proptest::prelude::*;

use super::*;

const VOCAB: usize = 1000;

/// A row of logits without pattern.
fn row(seed: u64) -> Vec<f32> {
    (0..VOCAB).map(|id| (draw::uniform(seed, id as u32) as f32 - 0.5) * 16.0).collect()
}

fn sampled() -> SamplingParams {
    SamplingParams { temperature: 1.0, ..SamplingParams::greedy() }
}

fn choose(logits: &[f32], params: &SamplingParams, position: u32) -> TokenId {
    let context = ChoiceContext { params, counts: None, allowed: None, position, num_top: None };
    Sampler::default().choose(&mut logits.to_vec(), context).unwrap().id
}

/// Probabilities the plain way.
fn softmax(logits: &[f32], temperature: f32) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits.iter().map(|l| (f64::from(l - max) / f64::from(temperature)).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

/// The tokens that may be drawn, the plain way: sort all, then cut.
fn allowed(logits: &[f32], params: &SamplingParams) -> Vec<TokenId> {
    let probabilities = softmax(logits, params.temperature);
    let mut ids: Vec<TokenId> = (0..logits.len() as u32).collect();
    ids.sort_by(|a, b| logits[*b as usize].partial_cmp(&logits[*a as usize]).unwrap().then(a.cmp(b)));
    if params.top_k > 0 {
        ids.truncate(params.top_k as usize);
    }
    let largest = probabilities[ids[0] as usize];
    ids.retain(|id| probabilities[*id as usize] >= f64::from(params.min_p) * largest);
    let total: f64 = ids.iter().map(|id| probabilities[*id as usize]).sum();
    let mut mass = 0.0;
    let reached = ids.iter().position(|id| {
        mass += probabilities[*id as usize];
        mass >= f64::from(params.top_p) * total
    });
    ids.truncate(reached.map_or(ids.len(), |last| last + 1));
    ids
}

#[test]
fn greedy_takes_the_largest_and_the_lower_id_of_equals() {
    let mut logits = row(1);
    logits[700] = 9.0;
    logits[300] = 9.0;
    logits[301] = 9.0;
    assert_eq!(choose(&logits, &SamplingParams::greedy(), 0), 300);
}

#[test]
fn the_same_seed_and_position_draw_the_same_token_and_others_do_not() {
    let logits = vec![0.0; VOCAB];
    let draws =
        |seed: u64| (0..50).map(|p| choose(&logits, &SamplingParams { seed, ..sampled() }, p)).collect::<Vec<_>>();
    assert_eq!(draws(7), draws(7));
    assert_ne!(draws(7), draws(8));
    let distinct: std::collections::BTreeSet<_> = draws(7).into_iter().collect();
    assert!(distinct.len() > 40, "{}", distinct.len());
}

#[test]
fn draws_follow_the_distribution() {
    let logits: Vec<f32> = [0.5_f32, 0.25, 0.15, 0.1].iter().map(|p| p.ln()).collect();
    for (temperature, expected) in [(1.0, [0.5, 0.25, 0.15, 0.1]), (0.5, [0.7246, 0.1812, 0.0652, 0.029])] {
        let params = SamplingParams { temperature, seed: 3, ..sampled() };
        let mut counts = [0_u32; 4];
        for position in 0..20_000 {
            counts[choose(&logits, &params, position) as usize] += 1;
        }
        for (count, expected) in counts.iter().zip(expected) {
            let share = f64::from(*count) / 20_000.0;
            // Four standard deviations of a share of 0.5 in 20,000 draws.
            assert!((share - expected).abs() < 0.015, "{share} for {expected} at {temperature}");
        }
    }
}

#[test]
fn min_p_keeps_what_is_likely_enough_relative_to_the_likeliest() {
    let logits: Vec<f32> = [0.5_f32, 0.3, 0.15, 0.05].iter().map(|p| p.ln()).collect();
    let params = SamplingParams { min_p: 0.29, ..sampled() };
    let drawn: std::collections::BTreeSet<_> = (0..500).map(|p| choose(&logits, &params, p)).collect();
    assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [0, 1, 2], "0.05 / 0.5 is below 0.29");
}

#[test]
fn top_p_keeps_the_smallest_set_that_reaches_it() {
    let logits: Vec<f32> = [0.1_f32, 0.5, 0.3, 0.1].iter().map(|p| p.ln()).collect();
    for (top_p, expected) in [(0.4, vec![1]), (0.6, vec![1, 2]), (0.85, vec![0, 1, 2])] {
        let params = SamplingParams { top_p, ..sampled() };
        let drawn: std::collections::BTreeSet<_> = (0..500).map(|p| choose(&logits, &params, p)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), expected, "{top_p}");
    }
}

#[test]
fn penalties_act_on_what_was_seen_in_their_order() {
    let params = SamplingParams {
        repetition_penalty: 2.0,
        frequency_penalty: 0.5,
        presence_penalty: 0.25,
        logit_bias: vec![(3, 4.0), (9999, 1.0)],
        ..SamplingParams::greedy()
    };
    let counts = TokenCounts::for_job(&params, &[0, 1], &[2, 3, 3]).unwrap();
    let mut logits = vec![4.0, -4.0, 4.0, 4.0, 1.0];
    let context =
        ChoiceContext { params: &params, counts: Some(&counts), allowed: None, position: 5, num_top: Some(2) };
    let out = Sampler::default().choose(&mut logits, context).unwrap();
    // Prompt tokens: divided, or multiplied if negative. Generated ones also pay per occurrence and once.
    assert_eq!(logits, [2.0, -8.0, 4.0 / 2.0 - 0.75, (4.0 + 4.0) / 2.0 - 1.25, 1.0]);
    assert_eq!(out.id, 3);
    // The report is of the distribution before all this.
    let expected = softmax(&[4.0, -4.0, 4.0, 4.0, 1.0], 1.0)[3].ln();
    let logprobs = out.logprobs.unwrap();
    assert!((f64::from(logprobs.logprob) - expected).abs() < 1e-5);
    assert_eq!(logprobs.top.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [0, 2], "ties go to the lower id");
}

#[test]
fn no_counts_are_kept_where_no_penalty_asks() {
    assert_eq!(TokenCounts::for_job(&sampled(), &[1, 2], &[3]), None);
}

#[test]
fn logprobs_sum_to_one_and_agree_with_the_plain_formula() {
    let logits = row(5);
    let plain = softmax(&logits, 1.0);
    let mut sampler = Sampler::default();
    let mut sum = 0.0;
    for (id, probability) in plain.iter().enumerate() {
        let logprob = f64::from(sampler.score(&logits, id as u32, 0).unwrap().logprob);
        assert!((logprob - probability.ln()).abs() < 1e-4, "{logprob} {}", probability.ln());
        sum += logprob.exp();
    }
    assert!((sum - 1.0).abs() < 1e-4, "{sum}");
    let top = sampler.score(&logits, 0, 20).unwrap().top;
    let expected = allowed(&logits, &SamplingParams { top_k: 20, ..sampled() });
    assert_eq!(top.iter().map(|(id, _)| *id).collect::<Vec<_>>(), expected);
    assert!(top.is_sorted_by(|a, b| a.1 >= b.1));
}

#[test]
fn large_logits_do_not_overflow() {
    let logits = [3000.0, 2999.0, -3000.0];
    let logprob = Sampler::default().score(&logits, 1, 0).unwrap().logprob;
    assert!((logprob - (-1.313_26)).abs() < 1e-3, "{logprob}");
}

#[test]
fn a_row_that_is_not_finite_is_refused_wherever_the_value_is() {
    for place in [0, 15, 16, 255, 256, VOCAB - 1] {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut logits = row(2);
            logits[place] = bad;
            let context = ChoiceContext { params: &sampled(), counts: None, allowed: None, position: 0, num_top: None };
            assert_eq!(
                Sampler::default().choose(&mut logits, context).unwrap_err(),
                BadRow::NotFinite,
                "{bad} at {place}"
            );
        }
    }
}

#[test]
fn only_what_is_allowed_is_chosen_and_the_report_is_of_the_whole_distribution() {
    let logits = row(3);
    let mut likeliest: Vec<TokenId> = (0..VOCAB as u32).collect();
    likeliest.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
    // Neither the likeliest token nor one beyond the mask's end.
    let wanted: Vec<TokenId> = likeliest[5..].iter().copied().filter(|id| *id < 900).take(3).collect();
    let mut allowed = [0_u32; 900 / 32 + 1];
    wanted.iter().for_each(|id| allowed[*id as usize / 32] |= 1 << (*id % 32));
    let plain = softmax(&logits, 1.0);
    for params in [SamplingParams::greedy(), sampled(), SamplingParams { top_p: 0.9, ..sampled() }] {
        let drawn: std::collections::BTreeSet<_> = (0..400)
            .map(|position| {
                let allowed = Some(&allowed[..]);
                let context = ChoiceContext { params: &params, counts: None, allowed, position, num_top: Some(1) };
                let out = Sampler::default().choose(&mut logits.clone(), context).unwrap();
                let TokenLogprobs { logprob, top } = out.logprobs.unwrap();
                assert!((f64::from(logprob) - plain[out.id as usize].ln()).abs() < 1e-4);
                assert_eq!(top[0].0, likeliest[0]);
                out.id
            })
            .collect();
        let expected = if params.temperature > 0.0 { wanted.clone() } else { wanted[..1].to_vec() };
        assert_eq!(drawn, expected.into_iter().collect(), "{params:?}");
    }
    let context =
        ChoiceContext { params: &sampled(), counts: None, allowed: Some(&[0, 0]), position: 1, num_top: None };
    assert_eq!(Sampler::default().choose(&mut logits.clone(), context), Err(BadRow::NothingAllowed));
}

proptest! {
    #[test]
    fn whatever_is_drawn_is_allowed_by_the_plain_rule(
        seed in any::<u64>(), temperature in 0.05_f32..3.0, top_k in 0..40_u32,
        min_p in prop_oneof![Just(0.0_f32), 0.0_f32..0.9], top_p in prop_oneof![Just(1.0_f32), 0.01_f32..0.999],
    ) {
        let logits = row(seed);
        let params = SamplingParams { temperature, top_k, min_p, top_p, seed, ..SamplingParams::greedy() };
        // The two ways of summing may disagree by rounding about the last token of the set.
        let allowed = allowed(&logits, &SamplingParams { top_p: top_p + 1e-4, min_p: min_p * 0.9999, ..params.clone() });
        for position in 0..20 {
            let id = choose(&logits, &params, position);
            prop_assert!(allowed.contains(&id), "{} is not among {:?}", id, allowed);
        }
    }

    #[test]
    fn buffers_that_are_reused_change_nothing(seed in any::<u64>(), top_p in 0.1_f32..1.0) {
        let params = SamplingParams { top_p, seed, ..sampled() };
        let mut reused = Sampler::default();
        for position in 0..10 {
            let logits = row(seed.wrapping_add(position.into()));
            let context = ChoiceContext { params: &params, counts: None, allowed: None, position, num_top: Some(5) };
            let fresh = Sampler::default().choose(&mut logits.clone(), context);
            prop_assert_eq!(reused.choose(&mut logits.clone(), context), fresh);
        }
    }
}
