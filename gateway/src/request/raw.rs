//! JSON values as they stand in a body, read only where somebody knows what they should be.
//!
//! A tree of values may take fifty times the memory of its text. So a body never becomes one: what is kept of it are
//! places in its text, and each is read straight into the type that it should have, whose size is bounded by the text's
//! or by a limit that is checked first.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Deserializer, Error, Number};
use souk_protocol::TokenId;

use crate::error::ApiError;

/// Lists and objects within one another, at most: as many as `serde_json` reads.
const MAX_DEPTH: usize = 127;
/// Longest text that a message shows.
const SHOWN_BYTES: usize = 40;

/// A value's text, without white space around it; it is well-formed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw<'a>(&'a str);

/// What kind of value it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool,
    Number,
    Text,
    List,
    Object,
}

impl<'a> Raw<'a> {
    /// The value that a text is.
    ///
    /// # Errors
    /// It is no JSON, is nested too deeply, or has a number or an escape that means nothing.
    pub(crate) fn read(text: &'a str) -> Result<Self, Error> {
        let mut nothing = Counted { bytes: Vec::new(), len: 0, most: 0 };
        let mut reader = Deserializer::from_str(text);
        Compact(&mut nothing).deserialize(&mut reader)?;
        reader.end()?;
        Ok(Self(text.trim()))
    }

    pub(crate) fn kind(self) -> Kind {
        match self.0.as_bytes().first() {
            Some(b'n') => Kind::Null,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'"') => Kind::Text,
            Some(b'[') => Kind::List,
            Some(b'{') => Kind::Object,
            _ => Kind::Number,
        }
    }

    pub(crate) fn as_bool(self) -> Option<bool> {
        (self.kind() == Kind::Bool).then_some(self.0 == "true")
    }

    /// The text, if it is one; an error if an escape in it means nothing.
    pub(crate) fn as_text(self) -> Option<Result<Cow<'a, str>, Error>> {
        let text = || Deserializer::from_str(self.0).deserialize_str(TextVisitor);
        (self.kind() == Kind::Text).then(text)
    }

    /// The number, if it is one; infinite where it is larger than numbers here are.
    pub(crate) fn as_f64(self) -> Option<f64> {
        if self.kind() != Kind::Number {
            return None;
        }
        self.number().map_or_else(|| self.0.parse().ok(), |number| number.as_f64())
    }

    /// A whole number of 64 bits, also where it is written `1.0`.
    pub(crate) fn as_integer(self) -> Option<i64> {
        // 2^63, the first number that is too large.
        const BEYOND: f64 = 9_223_372_036_854_775_808.0;
        let number = self.number()?;
        number.as_i64().or_else(|| {
            let float = number.as_f64().filter(|float| float.fract() == 0.0 && (-BEYOND..BEYOND).contains(float))?;
            Some(float as i64)
        })
    }

    fn number(self) -> Option<Number> {
        if self.kind() == Kind::Number { serde_json::from_str(self.0).ok() } else { None }
    }

    /// How many items the list has; `None` if it is none.
    pub(crate) fn num_items(self) -> Option<usize> {
        let count = || Deserializer::from_str(self.0).deserialize_seq(ItemCounter).unwrap_or_default();
        (self.kind() == Kind::List).then(count)
    }

    /// What kind of value the first item of the list is.
    pub(crate) fn first_kind(self) -> Option<Kind> {
        (self.num_items()? > 0).then(|| Self(self.0[1..].trim_start()).kind())
    }

    /// Whether this is the value that `compact` writes without white space.
    pub(crate) fn says(self, compact: &str) -> bool {
        self.compact(compact.len()).is_ok_and(|(text, len)| len == compact.len() && text == compact)
    }

    /// Hands over each item of the list with its number, until one is refused.
    pub(crate) fn each_item(self, take: impl FnMut(usize, Self) -> Result<(), ApiError>) -> Result<(), ApiError> {
        let mut visitor = Items { take, refused: None };
        let read = Deserializer::from_str(self.0).deserialize_seq(&mut visitor);
        match visitor.refused {
            Some(refused) => Err(refused),
            None => read.map_err(ApiError::internal),
        }
    }

    /// The token ids of a flat list of numbers; `None` if it is anything else.
    pub(crate) fn as_token_ids(self) -> Option<Vec<TokenId>> {
        let mut ids = Vec::with_capacity(self.num_items()?);
        Deserializer::from_str(self.0).deserialize_seq(TokenIds(&mut ids)).ok()?;
        Some(ids)
    }

    /// The value without white space, its numbers and escapes in one form, and its length. What goes beyond `most`
    /// bytes is counted and not kept.
    pub(crate) fn compact(self, most: usize) -> Result<(String, usize), Error> {
        let mut out = Counted { bytes: Vec::new(), len: 0, most };
        Compact(&mut out).deserialize(&mut Deserializer::from_str(self.0))?;
        Ok((String::from_utf8(out.bytes).unwrap_or_default(), out.len))
    }

    /// As a message can show it: kind only for what may be long or private.
    pub(crate) fn brief(self) -> String {
        match self.kind() {
            Kind::Null | Kind::Bool => self.0.to_owned(),
            // As it is written: reading it may change its last digit.
            Kind::Number if self.0.len() <= SHOWN_BYTES => self.0.to_owned(),
            Kind::Number => format!("{}…", &self.0[..SHOWN_BYTES]),
            // An escape of six bytes is at least one byte of text.
            Kind::Text if self.0.len() > 6 * SHOWN_BYTES + 2 => "a long string".to_owned(),
            Kind::Text => match self.as_text() {
                Some(Ok(text)) if text.len() <= SHOWN_BYTES => format!("'{text}'"),
                Some(Ok(_)) => "a long string".to_owned(),
                Some(Err(_)) | None => "a string".to_owned(),
            },
            Kind::List => format!("a list of {}", self.num_items().unwrap_or_default()),
            Kind::Object => "an object".to_owned(),
        }
    }
}

/// The parts of an object by their names; of equal names the last counts.
#[derive(Debug, Default)]
pub(crate) struct Object<'a> {
    /// With the number of the name among all, in order of appearance.
    parts: BTreeMap<Cow<'a, str>, (usize, Raw<'a>)>,
    /// Parts that there are, those of equal names too.
    num_parts: usize,
    /// Whether there were more names than were asked for; the parts of those are not here.
    is_beyond: bool,
}

impl<'a> Object<'a> {
    /// The object that a body is, with up to `most` names.
    ///
    /// # Errors
    /// [`ApiError::MalformedJson`] with the field in which the text is no JSON.
    pub(crate) fn of_body(body: &'a [u8], most: usize) -> Result<Self, ApiError> {
        let malformed = |field: Option<String>, reason: String| ApiError::MalformedJson { field, reason };
        if let Some((line, column)) = too_deep(body) {
            let reason = format!("recursion limit exceeded at line {line} column {column}");
            return Err(malformed(None, reason));
        }
        if body.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| *byte != b'{') {
            let read = serde_json::from_slice::<IgnoredAny>(body);
            let reason = read.err().map_or_else(|| "the body must be a JSON object".to_owned(), |it| it.to_string());
            return Err(malformed(None, reason));
        }
        let mut reader = Deserializer::from_slice(body);
        let mut visitor = Parts { object: Self::default(), most, within: None };
        let read = reader.deserialize_map(&mut visitor).and_then(|()| reader.end());
        read.map_err(|error| malformed(visitor.within, error.to_string()))?;
        Ok(visitor.object)
    }

    /// The object that a value is, with up to `most` names; `None` if it is none.
    pub(crate) fn of(raw: Raw<'a>, most: usize) -> Option<Self> {
        let mut visitor = Parts { object: Self::default(), most, within: None };
        if raw.kind() != Kind::Object {
            return None;
        }
        Deserializer::from_str(raw.0).deserialize_map(&mut visitor).ok()?;
        Some(visitor.object)
    }

    /// How many parts there are beyond what was asked for, with all others.
    pub(crate) fn too_many(&self) -> Option<usize> {
        self.is_beyond.then_some(self.num_parts)
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Raw<'a>> {
        self.parts.remove(name).map(|(_, raw)| raw)
    }

    pub(crate) fn get(&self, name: &str) -> Option<Raw<'a>> {
        self.parts.get(name).map(|(_, raw)| *raw)
    }

    /// What was not taken, in order of appearance.
    pub(crate) fn into_parts(self) -> Vec<(Cow<'a, str>, Raw<'a>)> {
        let mut parts: Vec<_> = self.parts.into_iter().collect();
        parts.sort_unstable_by_key(|(_, (number, _))| *number);
        parts.into_iter().map(|(name, (_, raw))| (name, raw)).collect()
    }
}

/// Where the body is nested deeper than [`MAX_DEPTH`], by line and column.
fn too_deep(body: &[u8]) -> Option<(usize, usize)> {
    let (mut depth, mut in_text, mut is_escaped) = (0_usize, false, false);
    let at = body.iter().position(|byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_text => is_escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > MAX_DEPTH
    })?;
    let before = &body[..at];
    let line_begin = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    Some((1 + before.iter().filter(|byte| **byte == b'\n').count(), 1 + at - line_begin))
}

struct TextVisitor;

impl<'a> Visitor<'a> for TextVisitor {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

impl<'a> DeserializeSeed<'a> for TextVisitor {
    type Value = Cow<'a, str>;

    fn deserialize<D: serde::Deserializer<'a>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

/// Reads the parts of an object.
struct Parts<'a> {
    object: Object<'a>,
    most: usize,
    /// The name whose value is being read.
    within: Option<String>,
}

impl<'a> Visitor<'a> for &mut Parts<'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        let Object { parts, num_parts, is_beyond } = &mut self.object;
        while let Some(name) = map.next_key_seed(TextVisitor)? {
            let raw = match map.next_value::<&'a RawValue>() {
                Ok(raw) => Raw(raw.get()),
                Err(error) => {
                    self.within = Some(name.chars().take(80).collect());
                    return Err(error);
                }
            };
            let number = *num_parts;
            *num_parts += 1;
            if let Some((_, known)) = parts.get_mut(&name) {
                *known = raw;
            } else if parts.len() < self.most {
                parts.insert(name, (number, raw));
            } else {
                *is_beyond = true;
            }
        }
        Ok(())
    }
}

struct ItemCounter;

impl<'a> Visitor<'a> for ItemCounter {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut items: S) -> Result<usize, S::Error> {
        let mut num = 0;
        while items.next_element::<IgnoredAny>()?.is_some() {
            num += 1;
        }
        Ok(num)
    }
}

/// Hands over items, and keeps the refusal of one.
struct Items<F> {
    take: F,
    refused: Option<ApiError>,
}

impl<'a, F: FnMut(usize, Raw<'a>) -> Result<(), ApiError>> Visitor<'a> for &mut Items<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut items: S) -> Result<(), S::Error> {
        let mut index = 0;
        while let Some(item) = items.next_element::<&'a RawValue>()? {
            if let Err(refused) = (self.take)(index, Raw(item.get())) {
                self.refused = Some(refused);
                return Err(S::Error::custom("an item is refused"));
            }
            index += 1;
        }
        Ok(())
    }
}

/// Reads a list of token ids.
struct TokenIds<'b>(&'b mut Vec<TokenId>);

impl<'a> Visitor<'a> for TokenIds<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of token ids")
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut items: S) -> Result<(), S::Error> {
        while let Some(id) = items.next_element()? {
            self.0.push(id);
        }
        Ok(())
    }
}

/// Writes what it reads.
struct Compact<'b>(&'b mut Counted);

impl<'a> DeserializeSeed<'a> for Compact<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'a>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Compact<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.0.value(&())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.0.value(&value)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.0.value(&value)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.0.value(&value)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.0.value(&value)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.0.value(value)
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut items: S) -> Result<(), S::Error> {
        self.0.sign(b"[");
        let begin = self.0.len;
        loop {
            let before = self.0.len;
            if before > begin {
                self.0.sign(b",");
            }
            if items.next_element_seed(Compact(self.0))?.is_none() {
                self.0.take_back(self.0.len - before);
                break;
            }
        }
        self.0.sign(b"]");
        Ok(())
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        self.0.sign(b"{");
        let mut is_first = true;
        while let Some(name) = map.next_key_seed(TextVisitor)? {
            if !std::mem::replace(&mut is_first, false) {
                self.0.sign(b",");
            }
            self.0.value::<M::Error>(&*name)?;
            self.0.sign(b":");
            map.next_value_seed(Compact(self.0))?;
        }
        self.0.sign(b"}");
        Ok(())
    }
}

/// Bytes up to a number of them, and how many there were.
struct Counted {
    bytes: Vec<u8>,
    len: usize,
    most: usize,
}

impl Counted {
    fn value<E: serde::de::Error>(&mut self, value: &(impl serde::Serialize + ?Sized)) -> Result<(), E> {
        serde_json::to_writer(self, value).map_err(E::custom)
    }

    fn sign(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        if self.len <= self.most {
            self.bytes.extend_from_slice(bytes);
        }
    }

    fn take_back(&mut self, num: usize) {
        self.len -= num;
        self.bytes.truncate(self.len);
    }
}

impl io::Write for &mut Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sign(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::json::any_json;

    fn raw(text: &str) -> Raw<'_> {
        Raw(text)
    }

    #[test]
    fn a_number_is_what_it_was_or_too_large() {
        assert_eq!(raw("1e400").as_f64(), Some(f64::INFINITY));
        assert_eq!((raw("1e400").as_integer(), raw("1e400").brief().as_str()), (None, "1e400"));
        assert_eq!(
            (raw("3.0").as_integer(), raw("-0").as_integer(), raw("1.5").as_integer()),
            (Some(3), Some(0), None)
        );
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
}
