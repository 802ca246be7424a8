//! A value's text, and what it can be read as.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed as _, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Deserializer, Error, Number};
use souk_protocol::TokenId;

use super::compact::{Compact, Counted};
use super::text::TextVisitor;
use crate::error::ApiError;

/// Longest text that a message shows.
pub(super) const SHOWN_BYTES: usize = 40;

/// A value's text, without white space around it; it is well-formed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw<'a>(pub(super) &'a str);

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
        let mut nothing = Counted::new(0);
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
        let mut out = Counted::new(most);
        Compact(&mut out).deserialize(&mut Deserializer::from_str(self.0))?;
        Ok(out.finish())
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
