//! Takes fields out of a JSON object one by one, so that every error names its field, the limit and what was given, and
//! so that what is left over at the end is known to be unknown.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::error::ApiError;

/// The fields of one object that were not taken yet.
pub(crate) struct Fields {
    map: Map<String, Value>,
    /// Path of the object, for messages: empty or ending in a full stop.
    path: String,
}

impl Fields {
    /// The fields of a whole body.
    pub(crate) const fn new(map: Map<String, Value>) -> Self {
        Self { map, path: String::new() }
    }

    /// The fields of an object within the body, at `path`.
    pub(crate) fn within(path: &str, value: Value) -> Result<Self, ApiError> {
        match value {
            Value::Object(map) => Ok(Self { map, path: format!("{path}.") }),
            other => Err(wrong_type(path, "an object", &other)),
        }
    }

    /// Path of a field, as errors name it.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// A field's value; `null` is as good as absent.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        // Swapped out rather than shifted: order no longer matters, and a body may have very many fields.
        self.map.swap_remove(name).filter(|value| !value.is_null())
    }

    /// Whether a field is there and not `null`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(|value| !value.is_null())
    }

    pub(crate) fn string(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(&self.path(name), "a string", &other)),
        }
    }

    pub(crate) fn boolean(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(wrong_type(&self.path(name), "a boolean", &other)),
        }
    }

    pub(crate) fn integer(&mut self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let path = self.path(name);
        match as_integer(&value) {
            Some(integer) if range.contains(&integer) => Ok(Some(integer)),
            None if !is_whole(&value) => Err(wrong_type(&path, "an integer", &value)),
            _ => Err(out_of_range(&path, &range, &value)),
        }
    }

    pub(crate) fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let path = self.path(name);
        match value.as_f64() {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            Some(_) => Err(out_of_range(&path, &range, &value)),
            None => Err(wrong_type(&path, "a number", &value)),
        }
    }

    pub(crate) fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(values)) => Ok(Some(values)),
            Some(other) => Err(wrong_type(&self.path(name), "a list", &other)),
        }
    }

    /// Refuses a field of the official API that is not supported, unless its value is one that means nothing.
    pub(crate) fn refuse_unless(&mut self, name: &str, harmless: impl Fn(&Value) -> bool) -> Result<(), ApiError> {
        match self.take(name) {
            Some(value) if !harmless(&value) => {
                let path = self.path(name);
                Err(ApiError::unsupported(
                    path.clone(),
                    format!("'{path}' is not supported with the value {}.", brief(&value)),
                ))
            }
            _ => Ok(()),
        }
    }

    /// Ends the object: `ignored` are fields that are accepted and have no effect, all others are unknown.
    pub(crate) fn finish(self, ignored: &[&str]) -> Result<(), ApiError> {
        match self.map.keys().find(|name| !ignored.contains(&name.as_str())) {
            Some(name) => Err(ApiError::UnknownParameter(self.path(&name.chars().take(80).collect::<String>()))),
            None => Ok(()),
        }
    }
}

/// A whole number of 64 bits, also where it is written `1.0`.
pub(crate) fn as_integer(value: &Value) -> Option<i64> {
    // 2^63, the first number that is too large.
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    value.as_i64().or_else(|| {
        let float = value.as_f64().filter(|float| float.fract() == 0.0 && (-BEYOND..BEYOND).contains(float))?;
        Some(float as i64)
    })
}

/// Whether a value is a whole number, however large.
fn is_whole(value: &Value) -> bool {
    value.as_f64().is_some_and(|float| float.fract() == 0.0)
}

/// A number that is too small or too large.
pub(super) fn out_of_range<T: Display>(path: &str, range: &RangeInclusive<T>, given: &Value) -> ApiError {
    let (from, to, given) = (range.start(), range.end(), brief(given));
    ApiError::invalid(path, format!("'{path}' must be between {from} and {to}; given {given}."))
}

/// A value of the wrong JSON type.
pub(crate) fn wrong_type(path: &str, expected: &str, given: &Value) -> ApiError {
    ApiError::invalid(path, format!("'{path}' must be {expected}; given {}.", brief(given)))
}

/// A value as a message can show it: kind only for what may be long or private.
fn brief(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.len() <= 40 => format!("'{text}'"),
        Value::String(_) => "a long string".to_owned(),
        Value::Array(values) => format!("a list of {}", values.len()),
        Value::Object(_) => "an object".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        Fields::within("body", value).unwrap()
    }

    #[test]
    fn an_error_names_field_limit_and_given_value() {
        let error = fields(json!({"temperature": 2.5})).number("temperature", 0.0..=2.0).unwrap_err();
        assert_eq!(error.to_string(), "'body.temperature' must be between 0 and 2; given 2.5.");
        let error = fields(json!({"n": "three"})).integer("n", 1..=16).unwrap_err();
        assert_eq!(error.to_string(), "'body.n' must be an integer; given 'three'.");
        let error = fields(json!({"n": 1.5})).integer("n", 1..=16).unwrap_err();
        assert_eq!(error.to_string(), "'body.n' must be an integer; given 1.5.");
    }

    #[test]
    fn null_is_absent_and_what_is_left_is_unknown() {
        let mut given = fields(json!({"a": null, "b": 1, "user": "x"}));
        assert_eq!(given.string("a").unwrap(), None);
        let error = given.finish(&["user"]).unwrap_err();
        assert_eq!(error.to_string(), "Unknown parameter: 'body.b'.");
    }

    #[test]
    fn a_whole_number_may_be_written_as_a_float() {
        assert_eq!(fields(json!({"n": 3.0})).integer("n", 1..=16).unwrap(), Some(3));
        assert_eq!(fields(json!({"n": -0.0})).integer("n", 0..=16).unwrap(), Some(0));
        assert_eq!(fields(json!({"n": 1e17})).integer("n", 0..=i64::MAX).unwrap(), Some(100_000_000_000_000_000));
        for given in [json!(1e300), json!(-1e300), json!(u64::MAX), json!(1e19), json!(0)] {
            let error = fields(json!({"n": given})).integer("n", 1..=i64::MAX).unwrap_err();
            let expected = format!("'body.n' must be between 1 and 9223372036854775807; given {given}.");
            assert_eq!(error.to_string(), expected);
        }
    }
}
