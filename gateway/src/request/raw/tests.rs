use proptest::prelude::*;
use serde_json::{Value, json};

use super::value::SHOWN_BYTES;
use super::*;
use crate::error::ApiError;
use crate::testing::json::any_json;

fn raw(text: &str) -> Raw<'_> {
    Raw(text)
}

#[test]
fn a_number_is_what_it_was_or_too_large() {
    assert_eq!(raw("1e400").as_f64(), Some(f64::INFINITY));
    assert_eq!((raw("1e400").as_integer(), raw("1e400").brief().as_str()), (None, "1e400"));
    assert_eq!((raw("3.0").as_integer(), raw("-0").as_integer(), raw("1.5").as_integer()), (Some(3), Some(0), None));
    assert_eq!(raw("2.50").brief(), "2.50");
    assert_eq!(raw(&"9".repeat(400)).brief().chars().count(), SHOWN_BYTES + 1);
}

#[test]
fn an_error_names_the_field_in_which_it_is() {
    for (body, field, reason) in [
        (r#"{"a":1,"temperature":NaN}"#, Some("temperature"), "expected value at line 1 column 22"),
        (r#"{"messages":[{"role":}]}"#, Some("messages"), "expected value"),
        (r#"{"model":"#, Some("model"), "EOF"),
        (r#"{"a":1} x"#, None, "trailing characters"),
        (r#"{"a":1"#, None, "EOF"),
        ("", None, "EOF"),
        ("[1]", None, "must be a JSON object"),
        ("nul", None, "EOF"),
    ] {
        match Object::of_body(body.as_bytes(), 9) {
            Err(ApiError::MalformedJson { field: named, reason: said }) => {
                assert_eq!(named.as_deref(), field, "{body}");
                assert!(said.contains(reason), "{body}: {said}");
            }
            other => panic!("{body}: {other:?}"),
        }
    }
    assert!(Object::of_body(b"{\"a\":\"\xff\"}", 9).is_err());
}

#[test]
fn bodies_are_as_deep_as_they_could_be_and_no_deeper() {
    for (depth, is_read) in [(127, true), (128, false)] {
        let body = format!(r#"{{"a":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert_eq!(serde_json::from_str::<Value>(&body).is_ok(), is_read);
        assert_eq!(Object::of_body(body.as_bytes(), 9).is_ok(), is_read, "{depth}");
    }
    let in_text = format!(r#"{{"a":"\"{}"}}"#, "[".repeat(500));
    assert!(Object::of_body(in_text.as_bytes(), 9).is_ok());
}

#[test]
fn of_equal_names_the_last_counts_and_of_many_none_is_kept() {
    let object = Object::of(raw(r#"{"a":1,"b":2,"\u0061":3}"#), 2).unwrap();
    assert_eq!(object.too_many(), None);
    let parts: Vec<_> = object.into_parts().into_iter().map(|(name, raw)| (name.into_owned(), raw.0)).collect();
    assert_eq!(parts, [("a".to_owned(), "3"), ("b".to_owned(), "2")]);
    assert_eq!(Object::of(raw(r#"{"a":1,"b":2,"c":3,"c":4}"#), 2).unwrap().too_many(), Some(4));
}

#[test]
fn what_is_beyond_a_length_is_counted() {
    let text = r#" {"a" : [1, 2.50, "\u0041"], "b":{ }, "c": [ ]}"#;
    let (compact, len) = raw(text.trim()).compact(100).unwrap();
    assert_eq!(compact, r#"{"a":[1,2.5,"A"],"b":{},"c":[]}"#);
    assert_eq!(len, compact.len());
    let (kept, given) = raw(text.trim()).compact(10).unwrap();
    assert!(kept.len() <= 10 && given == len);
    assert!(raw("[1e400]").compact(100).is_err());
    assert!(raw(r#"["\ud800"]"#).compact(100).is_err());
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

proptest! {
    #[test]
    fn a_value_is_read_as_it_is(value in any_json()) {
        let text = pretty(&value);
        // Reading a number may change its last digit.
        let value: Value = serde_json::from_str(&text).unwrap();
        let raw = raw(&text);
        let (compact, len) = raw.compact(usize::MAX).unwrap();
        prop_assert_eq!(&compact, &value.to_string());
        prop_assert_eq!(len, compact.len());
        prop_assert_eq!(raw.as_bool(), value.as_bool());
        prop_assert_eq!(raw.as_f64(), value.as_f64());
        prop_assert_eq!(raw.num_items(), value.as_array().map(Vec::len));
        let text = raw.as_text().map(|text| text.unwrap().into_owned());
        prop_assert_eq!(text, value.as_str().map(str::to_owned));
        if let Some(object) = value.as_object() {
            let parts = Object::of(raw, 99).unwrap().into_parts();
            let names: Vec<_> = parts.iter().map(|(name, _)| name.to_string()).collect();
            prop_assert_eq!(names, object.keys().cloned().collect::<Vec<_>>());
            for (name, part) in parts {
                prop_assert_eq!(part.compact(usize::MAX).unwrap().0, object[&*name].to_string());
            }
        }
    }

    #[test]
    fn whatever_bytes_come_they_are_read_as_they_were(bytes in prop_oneof![
        any::<Vec<u8>>(),
        "[\\[\\]{}:,\"\\\\0-9eE.+ tfnaul-]{0,40}".prop_map(String::into_bytes),
    ]) {
        let was = serde_json::from_slice::<Value>(&bytes);
        match Object::of_body(&bytes, usize::MAX) {
            Ok(object) => match was {
                Ok(was) => prop_assert_eq!(object.parts.len(), was.as_object().unwrap().len()),
                // What a value means is looked at when it is asked for.
                Err(_) => prop_assert!(object.parts.values().any(|(_, part)| part.compact(0).is_err())),
            },
            Err(_) => prop_assert!(!was.is_ok_and(|was| was.is_object())),
        }
    }

    #[test]
    fn token_ids_are_what_a_list_of_numbers_says(ids in prop::collection::vec(any::<u32>(), 0..9)) {
        prop_assert_eq!(raw(&json!(ids).to_string()).as_token_ids(), Some(ids));
    }
}
