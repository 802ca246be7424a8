//! Whether a configuration fits the schema that its hook gave: the words of JSON Schema that hooks use for it. What is not here is
//! passed over, so that a schema may say more to people and tools than is checked.

use serde_json::Value;

use crate::error::Finding;

/// Most things that are told of one configuration.
const MOST_FINDINGS: usize = 16;
/// How deep a schema is followed.
const MAX_DEPTH: usize = 32;

/// Everything that is wrong with `config`, each with the place below `subject`.
pub(super) fn check(schema: &Value, config: &Value, subject: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    look(schema, config, subject, MAX_DEPTH, &mut findings);
    findings.truncate(MOST_FINDINGS);
    findings
}

fn look(schema: &Value, value: &Value, place: &str, depth: usize, findings: &mut Vec<Finding>) {
    let mut wrong = |message: String| findings.push(Finding::field(place, message));
    if *schema == Value::Bool(false) {
        return wrong("nothing may be here".to_owned());
    }
    let Some(schema) = schema.as_object().filter(|_| depth > 0) else { return };
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
            look(schema, item, &format!("{place}[{index}]"), depth - 1, findings);
        }
    }
    if let Some(object) = value.as_object() {
        look_at_object(schema, object, place, depth, findings);
    }
}

fn look_at_object(
    schema: &serde_json::Map<String, Value>,
    object: &serde_json::Map<String, Value>,
    place: &str,
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
            Some(schema) => look(schema, value, &place, depth - 1, findings),
            None => match schema.get("additionalProperties") {
                Some(Value::Bool(false)) => findings.push(Finding::field(place, "the hook knows no such field")),
                Some(schema) => look(schema, value, &place, depth - 1, findings),
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

fn shown(value: &Value) -> String {
    value.to_string().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn subjects(schema: &Value, config: &Value) -> Vec<String> {
        check(schema, config, "config").into_iter().map(|finding| finding.subject).collect()
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_place() {
        let schema = json!({
            "type": "object", "additionalProperties": false, "required": ["words"],
            "properties": {
                "words": { "type": "array", "minItems": 1, "items": { "type": "string", "maxLength": 4 } },
                "mode": { "enum": ["mask", "drop"] },
                "most": { "type": "integer", "minimum": 1, "maximum": 10 },
                "by": { "type": "object", "additionalProperties": { "type": ["string", "null"] } },
            },
        });
        for good in [
            json!({ "words": ["a"] }),
            json!({ "words": ["abcd"], "mode": "drop", "most": 10, "by": { "x": null, "y": "z" } }),
        ] {
            assert_eq!(subjects(&schema, &good), Vec::<String>::new());
        }
        for (config, expected) in [
            (json!([]), vec!["config"]),
            (json!({}), vec!["config.words"]),
            (json!({ "words": [] }), vec!["config.words"]),
            (json!({ "words": ["a", "abcde", 1] }), vec!["config.words[1]", "config.words[2]"]),
            (json!({ "words": ["a"], "mode": "x", "most": 1.5 }), vec!["config.mode", "config.most"]),
            (json!({ "words": ["a"], "most": 11, "other": 1 }), vec!["config.most", "config.other"]),
            (json!({ "words": ["a"], "by": { "x": 1 } }), vec!["config.by.x"]),
        ] {
            assert_eq!(subjects(&schema, &config), expected, "{config}");
        }
    }

    #[test]
    fn a_schema_that_says_nothing_takes_everything_and_one_that_is_deep_ends() {
        for schema in [json!({}), json!(true), json!("x"), json!({ "type": 7, "items": 3 })] {
            let fits = subjects(&schema, &json!({ "a": [1] }));
            assert!(fits.len() <= 1, "{schema}: {fits:?}");
        }
        let (mut schema, mut config) = (json!({}), json!(1));
        for _ in 0..100 {
            schema = json!({ "items": schema });
            config = json!([config]);
        }
        assert_eq!(subjects(&schema, &config), Vec::<String>::new());
    }
}
