//! From the source of a constraint to a grammar.

use llguidance::api::TopLevelGrammar;
use serde_json::{Value, json};
use souk_protocol::ConstraintSpec;

use super::error::ConstraintError;

/// White space between the parts of JSON: enough for an indented line. Without a bound a small model may go on with
/// blanks until its tokens are used up.
const JSON_WHITE_SPACE: &str = r"[ \n\r\t]{1,32}";

/// Largest `multipleOf`. What is within the limits of work is smaller still.
const MAX_DIVISOR: f64 = 1e8;

/// The grammar that `spec` describes.
pub(super) fn grammar(spec: &ConstraintSpec) -> Result<TopLevelGrammar, ConstraintError> {
    match spec {
        ConstraintSpec::JsonObject => Ok(json_grammar(json!({"type": "object"}))),
        ConstraintSpec::JsonSchema(source) => match serde_json::from_str(source) {
            Ok(schema @ (Value::Object(_) | Value::Bool(_))) => {
                check_multiples(&schema)?;
                Ok(json_grammar(schema))
            }
            Ok(_) => Err(ConstraintError::Invalid("a JSON schema is an object or a boolean".to_owned())),
            Err(error) => Err(ConstraintError::Invalid(format!("the schema is not JSON: {error}"))),
        },
        ConstraintSpec::Regex(source) => whole_text_regex(source).map(TopLevelGrammar::from_regex),
        ConstraintSpec::Grammar(source) => Ok(TopLevelGrammar::from_lark(source.clone())),
        ConstraintSpec::Choice(texts) => choice_grammar(texts),
    }
}

fn json_grammar(schema: Value) -> TopLevelGrammar {
    let schema = match schema {
        Value::Object(mut schema) => {
            let options = schema.entry("x-guidance").or_insert_with(|| json!({}));
            if let Value::Object(options) = options
                && !options.contains_key("whitespace_flexible")
            {
                options.entry("whitespace_pattern").or_insert_with(|| JSON_WHITE_SPACE.into());
            }
            Value::Object(schema)
        }
        other => other,
    };
    TopLevelGrammar::from_json_schema(schema)
}

/// Refuses multiples of what the grammar machinery cannot count to: it keeps ten times the remainder in 32 bits.
fn check_multiples(schema: &Value) -> Result<(), ConstraintError> {
    let mut left = vec![schema];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(parts) => {
                let divisor = parts.get("multipleOf").and_then(Value::as_f64);
                if let Some(given) = divisor.filter(|divisor| *divisor > MAX_DIVISOR) {
                    let message = format!("multipleOf may be at most {MAX_DIVISOR}; given {given}");
                    return Err(ConstraintError::Invalid(message));
                }
                left.extend(parts.values());
            }
            Value::Array(parts) => left.extend(parts),
            _ => {}
        }
    }
    Ok(())
}

/// A regular expression without the anchors around it: it matches the whole answer anyway.
fn whole_text_regex(source: &str) -> Result<&str, ConstraintError> {
    let backslashes = |text: &str| text.len() - text.trim_end_matches('\\').len();
    let inner = source.strip_prefix('^').unwrap_or(source);
    let inner = match inner.strip_suffix('$') {
        Some(rest) if backslashes(rest).is_multiple_of(2) => rest,
        _ => inner,
    };
    if !backslashes(inner).is_multiple_of(2) {
        return Err(ConstraintError::Invalid("the regular expression ends in a single backslash".to_owned()));
    }
    Ok(inner)
}

fn choice_grammar(texts: &[String]) -> Result<TopLevelGrammar, ConstraintError> {
    if texts.is_empty() {
        return Err(ConstraintError::Invalid("there is nothing to choose from".to_owned()));
    }
    // As one terminal they are a trie; as a rule each would be tried for itself.
    let quoted: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    Ok(TopLevelGrammar::from_lark(format!("start: TEXT\nTEXT: {}", quoted.join("\n    | "))))
}

/// A string of the dialect: a JSON string in which no control character stands for itself.
fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for character in Value::from(text).to_string().chars() {
        if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') {
            quoted.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            quoted.push(character);
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_around_a_regex_say_nothing() {
        assert_eq!(whole_text_regex("^ab$"), Ok("ab"));
        assert_eq!(whole_text_regex(r"a\$"), Ok(r"a\$"));
        assert_eq!(whole_text_regex(r"a\\$"), Ok(r"a\\"));
        assert!(whole_text_regex("a\\").is_err());
    }

    #[test]
    fn a_schema_keeps_its_own_white_space() {
        let options =
            |schema: Value| json_grammar(schema).grammars[0].json_schema.clone().unwrap()["x-guidance"].clone();
        assert_eq!(options(json!({})), json!({"whitespace_pattern": JSON_WHITE_SPACE}));
        let own = json!({"whitespace_flexible": false});
        assert_eq!(options(json!({"x-guidance": own})), own);
    }
}
