//! The parts of an object, as places in its text.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::Deserializer;
use serde_json::value::RawValue;

use super::text::TextVisitor;
use super::value::{Kind, Raw};
use crate::error::ApiError;

/// Lists and objects within one another, at most: as many as `serde_json` reads.
const MAX_DEPTH: usize = 127;

/// The parts of an object by their names; of equal names the last counts.
#[derive(Debug, Default)]
pub(crate) struct Object<'a> {
    /// With the number of the name among all, in order of appearance.
    pub(super) parts: BTreeMap<Cow<'a, str>, (usize, Raw<'a>)>,
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
