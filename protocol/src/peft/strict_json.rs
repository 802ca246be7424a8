//! JSON in which no object has a key twice. `serde_json` keeps the last of two equal keys, Python does too, other
//! readers keep the first: a file that means two things must not pass a check that sees one of them.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::problem::{ProblemCode, ProblemList, clip};

/// Most repeated keys that are reported for one document.
const MAX_REPORTED_DUPLICATES: usize = 8;

/// Reads `bytes` as one JSON object, keys in file order. Problems go to `problems` under `subject`; what is returned
/// with them is still good for further checks. Memory is bounded by a multiple of `bytes.len()`.
pub(super) fn parse_object(
    bytes: &[u8],
    subject: &str,
    syntax_code: ProblemCode,
    problems: &mut ProblemList,
) -> Option<Map<String, Value>> {
    let duplicates = RefCell::new(Vec::new());
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = StrictValue { duplicates: &duplicates }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    for key in duplicates.into_inner() {
        problems.add(ProblemCode::DuplicateKey, subject, format!("the key `{key}` appears twice in one object"));
    }
    match value {
        Ok(Value::Object(object)) => Some(object),
        Ok(other) => {
            problems.add(syntax_code, subject, format!("expected a JSON object, given {}", describe(&other)));
            None
        }
        Err(error) => {
            problems.add(syntax_code, subject, format!("not valid JSON: {}", clip(&error.to_string(), 200)));
            None
        }
    }
}

/// A value in a few words, for messages: `the text "gaussian"`, `a list of 3`.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("the text \"{}\"", clip(text, 80)),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(fields) => format!("an object with {} keys", fields.len()),
    }
}

#[derive(Clone, Copy)]
struct StrictValue<'a> {
    duplicates: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for StrictValue<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictValue<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Value, E> {
        Number::from_f64(number).map(Value::Number).ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(self)?;
            if object.contains_key(&key) {
                let mut duplicates = self.duplicates.borrow_mut();
                if duplicates.len() >= MAX_REPORTED_DUPLICATES {
                    return Err(A::Error::custom("too many repeated keys"));
                }
                duplicates.push(clip(&key, 200));
            } else {
                object.insert(key, value);
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> (Option<Map<String, Value>>, Vec<String>) {
        let mut problems = ProblemList::default();
        let object = parse_object(text.as_bytes(), "file", ProblemCode::ConfigInvalid, &mut problems);
        let listed = problems.into_problems().map_or(Vec::new(), |problems| problems.listed);
        (object, listed.into_iter().map(|problem| problem.message).collect())
    }

    #[test]
    fn a_repeated_key_is_found_at_every_level() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"b":{"a":1,"a":2}}"#, r#"{"b":[[{"a":1,"\u0061":2}]]}"#] {
            let (_, problems) = check(text);
            assert_eq!(problems, ["the key `a` appears twice in one object"], "{text}");
        }
    }

    #[test]
    fn equal_keys_in_different_objects_are_fine_and_order_is_kept() {
        let (object, problems) = check(r#"{"z":{"a":1},"b":{"a":1},"a":[]}"#);
        assert!(problems.is_empty());
        assert_eq!(object.unwrap().keys().collect::<Vec<_>>(), ["z", "b", "a"]);
    }

    #[test]
    fn what_is_not_one_object_is_refused() {
        for text in ["", "[]", "{", "{}{}", "NaN", "{\"a\":NaN}", "{\"a\":1e999}", "\u{feff}{}"] {
            let (object, problems) = check(text);
            assert!(object.is_none() && problems.len() == 1, "{text}: {problems:?}");
        }
        assert!(check(&"[".repeat(100_000)).0.is_none());
    }
}
