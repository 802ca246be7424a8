//! Parameters and logits at the edges of what numbers can be, each with every other, against the plain rule in `f64`.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// Every kind of number that a parameter can be: off, smallest, subnormal, ordinary, largest, none.
const NUMBERS: [f32; 22] = [
    0.0,
    -0.0,
    1e-45,
    1e-40,
    2.9e-39,
    f32::MIN_POSITIVE,
    1e-6,
    1e-5,
    0.01,
    0.3,
    0.7,
    0.999_999_94,
    1.0,
    1.1,
    2.0,
    1e4,
    f32::MAX,
    f32::INFINITY,
    -1e-45,
    -2.0,
    f32::MIN,
    f32::NAN,
];

/// Sizes with a tail, below a block and above several.
const SIZES: [usize; 4] = [1, 7, 256, 700];

/// A number of the list, or an ordinary one just as often.
fn number(ordinary: f32) -> impl Strategy<Value = f32> {
    prop_oneof![select(&NUMBERS[..]), Just(ordinary)]
}

fn params() -> impl Strategy<Value = SamplingParams> {
    let shape = (number(0.8), number(1.0), number(0.0), select(vec![0_u32, 1, 2, 40, u32::MAX]));
    let penalties = (number(1.0), number(0.0), number(0.0));
    let bias = proptest::collection::vec((select(vec![0_u32, 3, 5, 600, u32::MAX]), number(1.0)), 0..4);
    let seed = prop_oneof![Just(0), Just(u64::MAX), any::<u64>()];
    (shape, penalties, bias, seed).prop_map(
        |((temperature, top_p, min_p, top_k), (repetition, frequency, presence), logit_bias, seed)| SamplingParams {
            temperature,
            top_p,
            top_k,
            min_p,
            repetition_penalty: repetition,
            frequency_penalty: frequency,
            presence_penalty: presence,
            logit_bias,
            seed,
        },
    )
}

/// Rows that are flat, ordinary, peaked, full of ties, of subnormal numbers, or at both ends of the range.
fn row() -> impl Strategy<Value = Vec<f32>> {
    let ends = [f32::MIN, f32::MIN.next_up(), -1e-45, 0.0, 1e38, f32::MAX];
    let logit = move |kind: u32, uniform: f32, id: usize| match kind {
        0 => 0.0,
        1 => (uniform - 0.5) * 30.0,
        2 => {
            if id == 5 {
                40.0
            } else {
                uniform
            }
        }
        3 => (uniform * 4.0).round(),
        4 => f32::from_bits((uniform * 100.0) as u32),
        5 => f32::MIN,
        6 => f32::MAX,
        _ => ends[(uniform * 6.0) as usize % ends.len()],
    };
    (0..8_u32, select(&SIZES[..]), any::<u64>()).prop_map(move |(kind, size, seed)| {
        (0..size).map(|id| logit(kind, draw::uniform(seed, id as u32) as f32, id)).collect()
    })
}

/// What a constraint may allow: all, one token, some, those that are not among the likeliest, none.
fn mask(kind: u32, logits: &[f32]) -> Option<Vec<u32>> {
    let mean = logits.iter().map(|logit| f64::from(*logit)).sum::<f64>() / logits.len() as f64;
    let allows = |id: usize| match kind {
        1 => true,
        2 => id == logits.len() - 1,
        3 => id.is_multiple_of(3),
        4 => f64::from(logits[id]) <= mean,
        _ => false,
    };
    let mut words = vec![0_u32; logits.len().div_ceil(32)];
    (0..logits.len()).filter(|id| allows(*id)).for_each(|id| words[id / 32] |= 1 << (id % 32));
    (kind > 0).then_some(words)
}

fn is_allowed(mask: Option<&[u32]>, id: usize) -> bool {
    mask.is_none_or(|words| words.get(id / 32).is_some_and(|word| word >> (id % 32) & 1 == 1))
}

/// Bias and penalties by the plain rule: each is rounded to `f32`, kept within its range, and left out where it gives
/// no number.
fn modified(logits: &[f32], params: &SamplingParams, counts: Option<&TokenCounts>) -> Vec<f32> {
    let within = |value: f64, was: f32| match value as f32 {
        value if value.is_nan() => was,
        value => value.clamp(f32::MIN, f32::MAX),
    };
    let mut row = logits.to_vec();
    for (id, bias) in &params.logit_bias {
        if let Some(logit) = row.get_mut(*id as usize) {
            *logit = within(f64::from(*logit) + f64::from(*bias), *logit);
        }
    }
    for (id, generated) in counts.map_or(&HashMap::new(), |counts| &counts.generated) {
        let Some(logit) = row.get_mut(*id as usize) else { continue };
        let penalty = f64::from(params.repetition_penalty);
        let value = f64::from(*logit);
        *logit = within(if value > 0.0 { value / penalty } else { value * penalty }, *logit);
        if *generated > 0 {
            let by_frequency = f64::from(params.frequency_penalty) * f64::from(*generated);
            let taken_off = (f64::from(params.presence_penalty) + f64::from(by_frequency as f32)) as f32;
            *logit = within(f64::from(*logit) - f64::from(taken_off), *logit);
        }
    }
    row
}

/// The tokens that may be drawn with their likelihoods, by sorting all and cutting. `slack` moves the cuts by so much
/// that two ways of summing cannot disagree.
fn nucleus(row: &[f32], allowed: &[u32], params: &SamplingParams, slack: f64) -> BTreeMap<u32, f64> {
    let mut ids = allowed.to_vec();
    ids.sort_by(|a, b| row[*b as usize].partial_cmp(&row[*a as usize]).unwrap().then(a.cmp(b)));
    if params.temperature.is_nan() || params.temperature < 1e-5 || params.top_p <= 0.0 || params.top_k == 1 {
        return BTreeMap::from([(ids[0], 1.0)]);
    }
    let (max, temperature) = (f64::from(row[ids[0] as usize]), f64::from(params.temperature.min(1e30)));
    let weight = |id: &u32| ((f64::from(row[*id as usize]) - max) / temperature).exp();
    if params.top_k > 0 {
        ids.truncate(params.top_k as usize);
    }
    if params.min_p > 0.0 {
        ids.retain(|id| weight(id) >= f64::from(params.min_p.min(1.0)) * (1.0 - slack));
    }
    if params.top_p < 1.0 {
        let total: f64 = ids.iter().map(weight).sum();
        let mut mass = 0.0;
        let reached = ids.iter().position(|id| {
            mass += weight(id);
            mass >= f64::from(params.top_p) * total * (1.0 + slack)
        });
        ids.truncate(reached.map_or(ids.len(), |last| last + 1));
    }
    ids.into_iter().map(|id| (id, weight(&id))).collect()
}

/// Checks a choice against the plain rule.
fn check(
    logits: &[f32],
    params: &SamplingParams,
    mask: Option<&[u32]>,
    num_top: Option<u8>,
) -> Result<(), TestCaseError> {
    let counts = TokenCounts::for_job(params, &[0, 1, 5], &[5, 5, 6]);
    let context = ChoiceContext { params, counts: counts.as_ref(), allowed: mask, position: 9, num_top };
    let chosen = Sampler::default().choose(&mut logits.to_vec(), context);
    let allowed: Vec<u32> = (0..logits.len()).filter(|id| is_allowed(mask, *id)).map(|id| id as u32).collect();
    if allowed.is_empty() {
        prop_assert_eq!(chosen, Err(BadRow::NothingAllowed));
        return Ok(());
    }
    let TokenOut { id, logprobs } = chosen.unwrap();
    let mut row = modified(logits, params, counts.as_ref());
    if mask.is_some() {
        // The lowest number is kept for what is not allowed.
        row.iter_mut().for_each(|logit| *logit = logit.max(f32::MIN.next_up()));
    }
    // Not more than rounding: likelihoods are sums of numbers in f32.
    let (least, most) = (nucleus(&row, &allowed, params, -1e-4), nucleus(&row, &allowed, params, 1e-4));
    prop_assert!(most.contains_key(&id), "{} is not among {:?}", id, most);
    if least.len() == most.len() {
        let (total, target) = (most.values().sum::<f64>(), draw::uniform(params.seed, 9));
        let below = most.range(..id).map(|(_, weight)| weight).sum::<f64>() / total;
        let passed = below + most[&id] / total;
        prop_assert!(below <= target + 1e-4 && target <= passed + 1e-4, "{below} to {passed} for {target}");
    }
    prop_assert_eq!(logprobs.is_some(), num_top.is_some());
    if let Some(TokenLogprobs { logprob, top }) = logprobs {
        prop_assert_eq!(top.len(), usize::from(num_top.unwrap_or(0)).min(logits.len()));
        prop_assert!(
            std::iter::once(logprob).chain(top.iter().map(|(_, it)| *it)).all(|it| it.is_finite() && it <= 0.0)
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_parameters_the_token_is_the_plain_rules(
        logits in row(), params in params(), mask_kind in 0..6_u32,
        num_top in select(vec![None, Some(0), Some(1), Some(20), Some(u8::MAX)]),
    ) {
        let mask = mask(mask_kind, &logits);
        check(&logits, &params, mask.as_deref(), num_top)?;
    }
}

#[test]
fn every_number_for_every_two_parameters_gives_the_plain_rules_token() {
    type Set = fn(&mut SamplingParams, f32);
    let setters: [Set; 8] = [
        |params, number| params.temperature = number,
        |params, number| params.top_p = number,
        |params, number| params.min_p = number,
        |params, number| params.top_k = number as u32,
        |params, number| params.repetition_penalty = number,
        |params, number| params.frequency_penalty = number,
        |params, number| params.presence_penalty = number,
        |params, number| params.logit_bias = vec![(5, number)],
    ];
    let logits: Vec<f32> = (0..40).map(|id| (draw::uniform(4, id) as f32 - 0.5) * 30.0).collect();
    for (index, first) in setters.iter().enumerate() {
        for second in &setters[index + 1..] {
            for (a, b) in NUMBERS.iter().flat_map(|a| NUMBERS.map(|b| (*a, b))) {
                let mut params = SamplingParams { temperature: 0.9, seed: 5, ..SamplingParams::greedy() };
                first(&mut params, a);
                second(&mut params, b);
                check(&logits, &params, None, Some(2)).unwrap_or_else(|error| panic!("{params:?}: {error}"));
            }
        }
    }
}

#[test]
fn a_temperature_whose_inverse_is_beyond_the_range_is_greedy_under_a_constraint_too() {
    let mut logits = vec![0.0; 49_152];
    (logits[7], logits[9]) = (3.0, 2.0);
    let mut all_but_seven = vec![u32::MAX; 49_152 / 32];
    all_but_seven[0] &= !(1 << 7);
    for temperature in [1e-45, 2.9e-39, f32::MIN_POSITIVE, 1e-6] {
        let params = SamplingParams { temperature, ..SamplingParams::greedy() };
        for (allowed, expected) in [(None, 7), (Some(&all_but_seven[..]), 9)] {
            let context = ChoiceContext { params: &params, counts: None, allowed, position: 0, num_top: None };
            let chosen = Sampler::default().choose(&mut logits.clone(), context).unwrap();
            assert_eq!(chosen.id, expected, "{temperature}");
        }
    }
}
