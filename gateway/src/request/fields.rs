//! Takes fields out of a JSON object one by one, so that every error names its field, the limit and what was given, and
//! so that what is left over at the end is known to be unknown.

use std::borrow::Cow;
use std::fmt::Display;
use std::ops::RangeInclusive;

use super::raw::{Kind, Object, Raw};
use crate::error::ApiError;

/// Most names of an object of fields. None here knows half as many.
const MAX_NAMES: usize = 256;

/// The fields of one object that were not taken yet.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    object: Object<'a>,
    /// Path of the object, for messages: empty or ending in a full stop.
    path: String,
}

/// A list within a body.
#[derive(Clone, Copy)]
pub(crate) struct List<'a> {
    raw: Raw<'a>,
    /// How many items it has.
    pub(crate) len: usize,
}

impl<'a> Fields<'a> {
    /// The fields of a whole body.
    pub(crate) fn of_body(body: &'a [u8]) -> Result<Self, ApiError> {
        Self::new(Object::of_body(body, MAX_NAMES)?, String::new())
    }

    /// The fields of an object within the body, at `path`.
    pub(crate) fn within(path: &str, raw: Raw<'a>) -> Result<Self, ApiError> {
        match Object::of(raw, MAX_NAMES) {
            Some(object) => Self::new(object, format!("{path}.")),
            None => Err(wrong_type(path, "an object", raw)),
        }
    }

    fn new(object: Object<'a>, path: String) -> Result<Self, ApiError> {
        match object.too_many() {
            Some(given) => {
                let field = path.strip_suffix('.').map(str::to_owned);
                let reason = format!("an object here may have {MAX_NAMES} different names; {given} parts are given");
                Err(ApiError::MalformedJson { field, reason })
            }
            None => Ok(Self { object, path }),
        }
    }

    /// Path of a field, as errors name it.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// A field's value; `null` is as good as absent.
    pub(crate) fn take(&mut self, name: &str) -> Option<Raw<'a>> {
        self.object.take(name).filter(|raw| raw.kind() != Kind::Null)
    }

    /// Whether a field is there and not `null`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.object.get(name).is_some_and(|raw| raw.kind() != Kind::Null)
    }

    pub(crate) fn string(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        let Some(raw) = self.take(name) else { return Ok(None) };
        text(&self.path(name), raw, "a string").map(|text| Some(text.into_owned()))
    }

    pub(crate) fn boolean(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        let Some(raw) = self.take(name) else { return Ok(None) };
        raw.as_bool().map(Some).ok_or_else(|| wrong_type(&self.path(name), "a boolean", raw))
    }

    pub(crate) fn integer(&mut self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, ApiError> {
        let Some(raw) = self.take(name) else { return Ok(None) };
        let path = self.path(name);
        match raw.as_integer() {
            Some(integer) if range.contains(&integer) => Ok(Some(integer)),
            None if !is_whole(raw) => Err(wrong_type(&path, "an integer", raw)),
            _ => Err(out_of_range(&path, &range, raw)),
        }
    }

    pub(crate) fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, ApiError> {
        let Some(raw) = self.take(name) else { return Ok(None) };
        let path = self.path(name);
        match raw.as_f64() {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            Some(_) => Err(out_of_range(&path, &range, raw)),
            None => Err(wrong_type(&path, "a number", raw)),
        }
    }

    pub(crate) fn list(&mut self, name: &str) -> Result<Option<List<'a>>, ApiError> {
        let Some(raw) = self.take(name) else { return Ok(None) };
        List::of(raw).map(Some).ok_or_else(|| wrong_type(&self.path(name), "a list", raw))
    }

    /// Refuses a field of the official API that is not supported, unless its value is `harmless`, which is JSON without
    /// white space.
    pub(crate) fn refuse_unless(&mut self, name: &str, harmless: &str) -> Result<(), ApiError> {
        match self.take(name) {
            Some(raw) if !raw.says(harmless) => Err(self.unsupported(name, raw)),
            _ => Ok(()),
        }
    }

    /// Refuses a field of the official API that is not supported.
    pub(crate) fn refuse(&mut self, name: &str) -> Result<(), ApiError> {
        self.take(name).map_or(Ok(()), |raw| Err(self.unsupported(name, raw)))
    }

    fn unsupported(&self, name: &str, given: Raw<'_>) -> ApiError {
        let path = self.path(name);
        let message = format!("'{path}' is not supported with the value {}.", given.brief());
        ApiError::unsupported(path, message)
    }

    /// Ends the object: `ignored` are fields that are accepted and have no effect, all others are unknown.
    pub(crate) fn finish(self, ignored: &[&str]) -> Result<(), ApiError> {
        let Self { object, path } = self;
        match object.into_parts().into_iter().find(|(name, _)| !ignored.contains(&&**name)) {
            Some((name, _)) => {
                let name: String = name.chars().take(80).collect();
                Err(ApiError::UnknownParameter(format!("{path}{name}")))
            }
            None => Ok(()),
        }
    }
}

impl<'a> List<'a> {
    /// The list that a value is; `None` if it is none.
    pub(crate) fn of(raw: Raw<'a>) -> Option<Self> {
        raw.num_items().map(|len| Self { raw, len })
    }

    /// What `read` makes of each item and its number. How many there may be is checked before.
    pub(crate) fn map<T>(
        self,
        mut read: impl FnMut(usize, Raw<'a>) -> Result<T, ApiError>,
    ) -> Result<Vec<T>, ApiError> {
        let mut items = Vec::with_capacity(self.len);
        self.each(|index, raw| {
            items.push(read(index, raw)?);
            Ok(())
        })?;
        Ok(items)
    }

    /// Hands each item and its number to `take`.
    pub(crate) fn each(self, take: impl FnMut(usize, Raw<'a>) -> Result<(), ApiError>) -> Result<(), ApiError> {
        self.raw.each_item(take)
    }

    /// The value itself.
    pub(crate) const fn raw(self) -> Raw<'a> {
        self.raw
    }
}

/// The text at `path`; `expected` says what else there could be.
pub(super) fn text<'a>(path: &str, raw: Raw<'a>, expected: &str) -> Result<Cow<'a, str>, ApiError> {
    match raw.as_text() {
        Some(text) => text.map_err(|error| malformed(path, &error)),
        None => Err(wrong_type(path, expected, raw)),
    }
}

/// A value at `path` that is JSON and means nothing.
pub(super) fn malformed(path: &str, error: &serde_json::Error) -> ApiError {
    let said = error.to_string();
    // Where it is in the value says little of where it is in the body.
    let reason = said.split(" at line ").next().unwrap_or(&said).to_owned();
    ApiError::MalformedJson { field: Some(path.to_owned()), reason }
}

/// Whether a value is a whole number, however large.
fn is_whole(raw: Raw<'_>) -> bool {
    raw.as_f64().is_some_and(|float| float.is_infinite() || float.fract() == 0.0)
}

/// A number that is too small or too large.
pub(super) fn out_of_range<T: Display>(path: &str, range: &RangeInclusive<T>, given: Raw<'_>) -> ApiError {
    let (from, to, given) = (range.start(), range.end(), given.brief());
    ApiError::invalid(path, format!("'{path}' must be between {from} and {to}; given {given}."))
}

/// A value of the wrong JSON type.
pub(crate) fn wrong_type(path: &str, expected: &str, given: Raw<'_>) -> ApiError {
    ApiError::invalid(path, format!("'{path}' must be {expected}; given {}.", given.brief()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What becomes of the fields of an object at `body`.
    fn with<T>(value: &Value, read: impl FnOnce(Fields<'_>) -> T) -> T {
        let body = json!({ "body": value }).to_string();
        let mut outer = Fields::of_body(body.as_bytes()).unwrap();
        read(Fields::within("body", outer.take("body").unwrap()).unwrap())
    }

    #[test]
    fn an_error_names_field_limit_and_given_value() {
        for (value, expected) in [
            (json!({"temperature": 2.5}), "'body.temperature' must be between 0 and 2; given 2.5."),
            (json!({"temperature": [1, 2]}), "'body.temperature' must be a number; given a list of 2."),
        ] {
            let error = with(&value, |mut fields| fields.number("temperature", 0.0..=2.0)).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        for (value, expected) in [
            (json!({"n": "three"}), "'body.n' must be an integer; given 'three'."),
            (json!({"n": 1.5}), "'body.n' must be an integer; given 1.5."),
            (json!({"n": "x".repeat(41)}), "'body.n' must be an integer; given a long string."),
            (json!({"n": {}}), "'body.n' must be an integer; given an object."),
        ] {
            let error = with(&value, |mut fields| fields.integer("n", 1..=16)).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn what_json_can_write_and_nobody_can_hold_is_refused_by_name() {
        let mut fields = Fields::of_body(br#"{"temperature": 1e400, "n": -1e400, "user": "\ud800"}"#).unwrap();
        let error = fields.number("temperature", 0.0..=2.0).unwrap_err();
        assert_eq!(error.to_string(), "'temperature' must be between 0 and 2; given 1e400.");
        let error = fields.integer("n", 1..=16).unwrap_err();
        assert_eq!(error.to_string(), "'n' must be between 1 and 16; given -1e400.");
        let ApiError::MalformedJson { field, reason } = fields.string("user").unwrap_err() else { panic!("malformed") };
        assert_eq!(field.as_deref(), Some("user"));
        assert!(reason.contains("surrogate") || reason.contains("escape"), "{reason}");
    }

    #[test]
    fn null_is_absent_and_what_is_left_is_unknown() {
        let error = with(&json!({"a": null, "b": 1, "user": "x"}), |mut fields| {
            assert_eq!(fields.string("a").unwrap(), None);
            fields.finish(&["user"]).unwrap_err()
        });
        assert_eq!(error.to_string(), "Unknown parameter: 'body.b'.");
    }

    #[test]
    fn an_object_has_no_more_names_than_anybody_knows() {
        let many: Value = (0..=MAX_NAMES).map(|number| (number.to_string(), Value::Null)).collect();
        let error = Fields::of_body(many.to_string().as_bytes()).unwrap_err();
        assert!(error.to_string().contains("may have 256 different names; 257 parts are given"), "{error}");
        let body = json!({ "a": many }).to_string();
        let mut fields = Fields::of_body(body.as_bytes()).unwrap();
        let error = Fields::within("a", fields.take("a").unwrap()).unwrap_err();
        assert_eq!(error.body().error.param.as_deref(), Some("a"));
    }

    #[test]
    fn a_whole_number_may_be_written_as_a_float() {
        let read = |n: Value, range| with(&json!({ "n": n }), |mut fields| fields.integer("n", range));
        assert_eq!(read(json!(3.0), 1..=16).unwrap(), Some(3));
        assert_eq!(read(json!(-0.0), 0..=16).unwrap(), Some(0));
        assert_eq!(read(json!(1e17), 0..=i64::MAX).unwrap(), Some(100_000_000_000_000_000));
        for given in [json!(1e300), json!(-1e300), json!(u64::MAX), json!(1e19), json!(0)] {
            let error = read(given.clone(), 1..=i64::MAX).unwrap_err();
            let expected = format!("'body.n' must be between 1 and 9223372036854775807; given {given}.");
            assert_eq!(error.to_string(), expected);
        }
    }
}
