//! A schema as a document: what it refers to within itself, and the patterns in it.
//!
//! Both come from whoever publishes the hook, so both are bounded: a reference names a place of the same document and nothing outside, and a
//! pattern has the syntax of the crate `regex`, which matches in linear time, and a bounded size when it is compiled.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use regex::{Regex, RegexBuilder};
use serde_json::Value;

/// How deep a schema is followed; a reference counts, so that one that leads to itself ends.
pub(super) const MAX_DEPTH: usize = 32;
/// Longest pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 1024;
/// Most memory that one takes when it is compiled, and most that matching it takes beside.
const MAX_COMPILED_BYTES: usize = 1 << 20;
/// Most different patterns of a schema.
const MAX_PATTERNS: usize = 32;
/// How deep groups of a pattern lie in one another.
const MAX_NESTED: u32 = 32;

/// A schema, with what was compiled of it.
pub(super) struct Document<'a> {
    root: &'a Value,
    patterns: RefCell<HashMap<&'a str, Result<Regex, String>>>,
}

impl<'a> Document<'a> {
    pub(super) fn new(root: &'a Value) -> Self {
        Self { root, patterns: RefCell::default() }
    }

    /// The place that `$ref` names.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn referred_to(&self, reference: &Value) -> Result<&'a Value, String> {
        let not_here = || format!("the hook's schema refers to {}, which is not a place in it", shown(reference));
        let pointer = reference.as_str().and_then(|reference| reference.strip_prefix('#')).ok_or_else(not_here)?;
        self.root.pointer(&decoded(pointer).ok_or_else(not_here)?).ok_or_else(not_here)
    }

    /// Whether a text has what a pattern describes anywhere in it.
    ///
    /// # Errors
    /// What is wrong with the pattern.
    pub(super) fn matches(&self, pattern: &'a str, text: &str) -> Result<bool, String> {
        let mut patterns = self.patterns.borrow_mut();
        if patterns.len() >= MAX_PATTERNS && !patterns.contains_key(pattern) {
            return Err(too_many());
        }
        let compiled = patterns.entry(pattern).or_insert_with(|| compile(pattern));
        compiled.as_ref().map(|regex| regex.is_match(text)).map_err(Clone::clone)
    }
}

/// What is wrong with the references and patterns of a schema, wherever they are; `None` if nothing is.
pub(in crate::hooks) fn problem(schema: &Value) -> Option<String> {
    let document = Document::new(schema);
    let mut patterns = BTreeSet::new();
    look(&document, schema, MAX_DEPTH, &mut patterns).err()
}

fn look<'a>(
    document: &Document<'a>,
    schema: &'a Value,
    depth: usize,
    patterns: &mut BTreeSet<&'a str>,
) -> Result<(), String> {
    let Some(words) = schema.as_object() else { return Ok(()) };
    if depth == 0 {
        return Err(format!("the hook's schema is more than {MAX_DEPTH} deep"));
    }
    if let Some(reference) = words.get("$ref") {
        document.referred_to(reference)?;
    }
    if let Some(pattern) = words.get("pattern").and_then(Value::as_str)
        && patterns.insert(pattern)
    {
        if patterns.len() > MAX_PATTERNS {
            return Err(too_many());
        }
        compile(pattern)?;
    }
    for word in ["items", "additionalProperties"] {
        words.get(word).map_or(Ok(()), |schema| look(document, schema, depth - 1, patterns))?;
    }
    for word in ["properties", "$defs", "definitions"] {
        for schema in words.get(word).and_then(Value::as_object).into_iter().flat_map(serde_json::Map::values) {
            look(document, schema, depth - 1, patterns)?;
        }
    }
    Ok(())
}

fn compile(pattern: &str) -> Result<Regex, String> {
    let wrong = |why: String| {
        let pattern = shown(&Value::from(pattern));
        format!("the hook's schema has the pattern {pattern}, which cannot be used: {why}")
    };
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(wrong(format!("it has {} bytes, at most {MAX_PATTERN_BYTES}", pattern.len())));
    }
    let mut builder = RegexBuilder::new(pattern);
    builder.size_limit(MAX_COMPILED_BYTES).dfa_size_limit(MAX_COMPILED_BYTES).nest_limit(MAX_NESTED);
    builder.build().map_err(|error| {
        // The last line says it; those before draw the pattern.
        let text = error.to_string();
        let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        wrong(why)
    })
}

fn too_many() -> String {
    format!("the hook's schema has more than {MAX_PATTERNS} patterns")
}

/// The pointer in a fragment of an address: `%25` is `%`.
fn decoded(fragment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after;
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

pub(super) fn shown(value: &Value) -> String {
    value.to_string().chars().take(200).collect()
}
