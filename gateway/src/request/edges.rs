//! Numbers at the edges of what JSON can say, in every field that takes one.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::{ChatRequest, CompletionRequest};
use crate::error::ApiError;
use crate::limits::GatewayLimits;

/// Fields of both endpoints that take a number.
const FIELDS: [&str; 14] = [
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "n",
    "max_tokens",
    "priority",
    "logit_bias.7",
    "adapters[0].weight",
    "logprobs",
];

fn numbers() -> Vec<Value> {
    let floats = [
        0.0,
        5e-324,
        1e-320,
        1e-45,
        1e-40,
        2.9e-39,
        1e-10,
        0.01,
        0.5,
        0.999_999_999_999,
        1.0,
        1.5,
        2.0,
        2.000_001,
        16.0,
        20.0,
        21.0,
        100.0,
        100.5,
        1e4,
        3.5e38,
        1e39,
        1e300,
        f64::MAX,
    ];
    let integers = [0, 1, 2, 17, 10_001, u64::from(u32::MAX), u64::from(u32::MAX) + 1, i64::MAX as u64, u64::MAX];
    let signed = [-1, -2, -17, -101, i64::MIN];
    floats
        .iter()
        .flat_map(|float| [json!(float), json!(-float)])
        .chain(integers.map(Value::from))
        .chain(signed.map(Value::from))
        .collect()
}

/// A body with numbers at paths as [`FIELDS`] writes them.
fn body(text: bool, numbers: &[(&str, Value)]) -> Value {
    let mut body = if text {
        json!({"model": "m", "prompt": "a"})
    } else {
        json!({"model": "m", "messages": [{"role": "user", "content": "a"}]})
    };
    for (path, number) in numbers {
        match *path {
            "logit_bias.7" => body["logit_bias"] = json!({"7": number}),
            "adapters[0].weight" => body["adapters"] = json!([{"id": "a/b", "weight": number}]),
            "logprobs" if !text => body["top_logprobs"] = number.clone(),
            name => body[name] = number.clone(),
        }
    }
    if body.get("top_logprobs").is_some() {
        body["logprobs"] = json!(true);
    }
    body
}

/// Parses a body, and checks that what is accepted is within what the engine's formulas take.
fn parse(text: bool, body: &Value) -> Result<(), ApiError> {
    let (body, limits) = (body.to_string(), GatewayLimits::default());
    let generation = if text {
        CompletionRequest::read(body.as_bytes(), &limits)?.generation
    } else {
        ChatRequest::read(body.as_bytes(), &limits)?.generation
    };
    let sampling = generation.sampling();
    assert!((0.0..=2.0).contains(&sampling.temperature), "{sampling:?}");
    assert!((0.0..=1.0).contains(&sampling.top_p) && (0.0..=1.0).contains(&sampling.min_p), "{sampling:?}");
    assert!((0.0099..=2.0).contains(&sampling.repetition_penalty), "{sampling:?}");
    assert!((-2.0..=2.0).contains(&sampling.presence_penalty), "{sampling:?}");
    assert!((-2.0..=2.0).contains(&sampling.frequency_penalty), "{sampling:?}");
    assert!(sampling.logit_bias.iter().all(|(_, bias)| (-100.0..=100.0).contains(bias)), "{sampling:?}");
    assert!(generation.adapters.iter().all(|adapter| (-16.0..=16.0).contains(&adapter.weight)));
    Ok(())
}

/// Checks that an error is a 400 that names one of the fields, its limits and the number that was given.
fn check(error: &ApiError, text: bool, numbers: &[(&'static str, Value)]) -> Result<(), TestCaseError> {
    let body = error.body().error;
    let param = body.param.as_deref().unwrap_or_default();
    let name = |path: &'static str| if path == "logprobs" && !text { "top_logprobs" } else { path };
    prop_assert_eq!(error.status().as_u16(), 400);
    let Some((_, number)) = numbers.iter().find(|(path, _)| name(path) == param) else {
        return Err(TestCaseError::fail(format!("'{param}' is blamed for {numbers:?}")));
    };
    prop_assert!(body.message.starts_with(&format!("'{param}' must be ")), "{}", body.message);
    prop_assert!(body.message.ends_with(&format!("; given {number}.")), "{}", body.message);
    prop_assert!(
        body.message.contains(" between ") || number.as_f64().is_some_and(|it| it.fract() != 0.0),
        "{}",
        body.message
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn any_number_in_any_two_fields_is_taken_within_its_limits_or_refused_by_name(
        text in any::<bool>(),
        first in (select(&FIELDS[..]), select(numbers())),
        second in (select(&FIELDS[..]), select(numbers())),
    ) {
        let numbers = if first.0 == second.0 { vec![first] } else { vec![first, second] };
        if let Err(error) = parse(text, &body(text, &numbers)) {
            check(&error, text, &numbers)?;
        }
    }
}

#[test]
fn the_limits_themselves_are_taken_and_what_lies_beyond_is_refused_with_them() {
    let cases: [(&str, &[Value], &[Value], &str); 10] = [
        ("temperature", &[json!(0), json!(-0.0), json!(2.9e-39), json!(2)], &[json!(-1e-9), json!(2.1)], "0 and 2"),
        ("top_p", &[json!(0), json!(1e-320), json!(1)], &[json!(-0.1), json!(1.01)], "0 and 1"),
        ("top_k", &[json!(-1), json!(0), json!(4_294_967_295_u64)], &[json!(-2), json!(1e19)], "-1 and 4294967295"),
        ("min_p", &[json!(0), json!(5e-324), json!(1)], &[json!(-1e-45), json!(1e300)], "0 and 1"),
        ("presence_penalty", &[json!(-2), json!(2)], &[json!(-2.1), json!(f64::MAX)], "-2 and 2"),
        ("frequency_penalty", &[json!(-2), json!(2)], &[json!(-2.1), json!(f64::MAX)], "-2 and 2"),
        (
            "repetition_penalty",
            &[json!(0.01), json!(2)],
            &[json!(0), json!(1e-40), json!(0.009), json!(2.1)],
            "0.01 and 2",
        ),
        (
            "seed",
            &[json!(i64::MIN), json!(i64::MAX)],
            &[json!(u64::MAX), json!(1e19)],
            "-9223372036854775808 and 9223372036854775807",
        ),
        ("logit_bias.7", &[json!(-100), json!(100)], &[json!(-100.5), json!(1e39)], "-100 and 100"),
        ("adapters[0].weight", &[json!(-16), json!(0), json!(16)], &[json!(16.5), json!(-1e300)], "-16 and 16"),
    ];
    for (field, taken, refused, limits) in cases {
        for value in taken {
            parse(true, &body(true, &[(field, value.clone())]))
                .unwrap_or_else(|error| panic!("{field} {value}: {error}"));
        }
        for value in refused {
            let error = parse(true, &body(true, &[(field, value.clone())])).expect_err(&format!("{field} {value}"));
            assert_eq!(error.to_string(), format!("'{field}' must be between {limits}; given {value}."));
        }
    }
}
