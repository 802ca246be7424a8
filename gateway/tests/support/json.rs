//! JSON that nobody meant to send.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Values of every kind, nested a little.
pub(crate) fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof![Just(json!(-1)), Just(json!(0)), Just(json!(1e300)), Just(json!(u64::MAX)), Just(json!(""))],
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let key = prop_oneof![
            Just("model".to_owned()),
            Just("prompt".to_owned()),
            Just("messages".to_owned()),
            "[a-z_]{1,8}"
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key, inner), 0..4)
                .prop_map(|fields| Value::from(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// `body` with one value anywhere in it replaced.
pub(crate) fn mutated(body: Value) -> impl Strategy<Value = Value> {
    let num_values = count(&body);
    (0..num_values, any_json()).prop_map(move |(at, value)| {
        let mut body = body.clone();
        replace(&mut body, &mut { at }, &value);
        body
    })
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(values) => values.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// Replaces the value that comes `at` values later in reading order.
fn replace(value: &mut Value, at: &mut usize, new: &Value) -> bool {
    if *at == 0 {
        *value = new.clone();
        return true;
    }
    *at -= 1;
    match value {
        Value::Array(values) => values.iter_mut().any(|value| replace(value, at, new)),
        Value::Object(fields) => fields.values_mut().any(|value| replace(value, at, new)),
        _ => false,
    }
}
