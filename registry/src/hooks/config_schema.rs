//! Whether a configuration fits the schema that its hook gave: the words of JSON Schema that hooks use for it. What is not here is
//! passed over, so that a schema may say more to people and tools than is checked.

mod document;

use serde_json::Value;

pub(super) use self::document::problem;
use self::document::{Document, MAX_DEPTH, shown};
use crate::error::Finding;

/// Most things that are told of one configuration.
const MOST_FINDINGS: usize = 16;

/// Everything that is wrong with `config`, each with the place below `subject`.
pub(super) fn check(schema: &Value, config: &Value, subject: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    look(&Document::new(schema), schema, (config, subject), MAX_DEPTH, &mut findings);
    findings.truncate(MOST_FINDINGS);
    findings
}

fn look<'a>(
    document: &Document<'a>,
    schema: &'a Value,
    (value, place): (&Value, &str),
    depth: usize,
    findings: &mut Vec<Finding>,
) {
    let mut wrong = |message: String| findings.push(Finding::field(place, message));
    if *schema == Value::Bool(false) {
        return wrong("nothing may be here".to_owned());
    }
    let Some(schema) = schema.as_object().filter(|_| depth > 0) else { return };
    if let (Some(pattern), Some(text)) = (schema.get("pattern").and_then(Value::as_str), value.as_str()) {
        match document.matches(pattern, text) {
            Ok(true) => {}
            Ok(false) => wrong(format!("of the pattern {}", shown(&Value::from(pattern)))),
            Err(problem) => wrong(problem),
        }
    }
    match schema.get("$ref").map(|reference| document.referred_to(reference)) {
        None => {}
        Some(Ok(referred_to)) => look(document, referred_to, (value, place), depth - 1, findings),
        Some(Err(problem)) => return findings.push(Finding::field(place, problem)),
    }
    let mut wrong = |message: String| findings.push(Finding::field(place, message));
    if let Some(types) = schema.get("type")
        && !names(types).any(|name| has_type(value, name))
    {
        return wrong(format!("of type {}, given {}", shown(types), type_of(value)));
    }
    if let Some(choices) = schema.get("enum").and_then(Value::as_array)
        && !choices.contains(value)
    {
        wrong(format!("one of {}", shown(&Value::Array(choices.clone()))));
    }
    if let Some(expected) = schema.get("const").filter(|expected| *expected != value) {
        wrong(shown(expected).to_string());
    }
    for (word, is_least) in [("minimum", true), ("maximum", false)] {
        let bound = schema.get(word).and_then(Value::as_f64);
        if let (Some(bound), Some(given)) = (bound, value.as_f64())
            && ((is_least && given < bound) || (!is_least && given > bound))
        {
            wrong(format!("{} {bound}, given {given}", at(is_least)));
        }
    }
    for (word, is_least, given) in lengths(value) {
        if let Some(bound) = schema.get(word).and_then(Value::as_u64)
            && ((is_least && given < bound) || (!is_least && given > bound))
        {
            wrong(format!("{} {bound} long, given {given}", at(is_least)));
        }
    }
    if let Some(items) = value.as_array()
        && let Some(schema) = schema.get("items")
    {
        for (index, item) in items.iter().enumerate() {
            look(document, schema, (item, &format!("{place}[{index}]")), depth - 1, findings);
        }
    }
    if let Some(object) = value.as_object() {
        look_at_object(document, schema, (object, place), depth, findings);
    }
}

fn look_at_object<'a>(
    document: &Document<'a>,
    schema: &'a serde_json::Map<String, Value>,
    (object, place): (&serde_json::Map<String, Value>, &str),
    depth: usize,
    findings: &mut Vec<Finding>,
) {
    let properties = schema.get("properties").and_then(Value::as_object);
    for required in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if !object.contains_key(required) {
            findings.push(Finding::field(format!("{place}.{required}"), "it has to be there"));
        }
    }
    for (name, value) in object {
        let name_shown: String = name.chars().take(64).collect();
        let place = format!("{place}.{name_shown}");
        match properties.and_then(|properties| properties.get(name)) {
            Some(schema) => look(document, schema, (value, &place), depth - 1, findings),
            None => match schema.get("additionalProperties") {
                Some(Value::Bool(false)) => findings.push(Finding::field(place, "the hook knows no such field")),
                Some(schema) => look(document, schema, (value, &place), depth - 1, findings),
                None => {}
            },
        }
    }
}

fn at(is_least: bool) -> &'static str {
    if is_least { "at least" } else { "at most" }
}

/// The lengths that a value has, with the words that bound them and whether that is from below.
fn lengths(value: &Value) -> Vec<(&'static str, bool, u64)> {
    let both = |least, most, given: usize| vec![(least, true, given as u64), (most, false, given as u64)];
    match value {
        Value::String(text) => both("minLength", "maxLength", text.chars().count()),
        Value::Array(items) => both("minItems", "maxItems", items.len()),
        Value::Object(fields) => both("minProperties", "maxProperties", fields.len()),
        _ => Vec::new(),
    }
}

fn names(types: &Value) -> impl Iterator<Item = &str> {
    let one = types.as_str();
    let many = types.as_array().into_iter().flatten().filter_map(Value::as_str);
    one.into_iter().chain(many)
}

fn has_type(value: &Value, name: &str) -> bool {
    match name {
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        name => type_of(value) == name,
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests;
