//! What an answer must look like: `response_format`, and the names that vLLM gives the same things.

use std::sync::Arc;

use serde_json::Value;
use souk_protocol::ConstraintSpec;
use utoipa::ToSchema;

use super::fields::{Fields, List, malformed, text, wrong_type};
use super::raw::{Kind, Raw};
use crate::error::ApiError;
use crate::limits::GatewayLimits;

/// A constraint, with the field that asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedConstraint {
    /// Path of the field, which errors name.
    pub field: String,
    /// What it asks for.
    pub spec: Arc<ConstraintSpec>,
}

/// The fields that constrain an answer. At most one may be given; a text of up to 64 KiB each.
#[derive(Clone, Debug, PartialEq, ToSchema)]
pub struct ConstraintFields {
    /// `{"type": "text"}`, `{"type": "json_object"}`, or `{"type": "json_schema", "json_schema": {"name": …, "schema": …}}`.
    pub response_format: Option<Value>,
    /// A JSON schema that the answer conforms to: an object, or its text.
    pub guided_json: Option<Value>,
    /// A regular expression that matches the whole answer.
    pub guided_regex: Option<String>,
    /// A grammar in llguidance's dialect of Lark.
    pub guided_grammar: Option<String>,
    /// The answer is one of these.
    pub guided_choice: Option<Vec<String>>,
    /// The same under one name: an object with one of `json`, `regex`, `choice`, `grammar`, `json_object`.
    pub structured_outputs: Option<Value>,
}

/// Takes the constraint that the fields ask for, if any; of two, the error names both.
pub(super) fn take_constraint(
    fields: &mut Fields<'_>,
    limits: &GatewayLimits,
) -> Result<Option<RequestedConstraint>, ApiError> {
    let mut found: Vec<RequestedConstraint> = Vec::new();
    found.extend(take_response_format(fields, limits)?);
    found.extend(take_named(fields, ["guided_json", "guided_regex", "guided_grammar", "guided_choice"], limits)?);
    if let Some(value) = fields.take("structured_outputs") {
        let mut options = Fields::within("structured_outputs", value)?;
        let named = take_named(&mut options, ["json", "regex", "grammar", "choice"], limits)?;
        if options.boolean("json_object")?.unwrap_or(false) {
            found.push(requested(options.path("json_object"), ConstraintSpec::JsonObject));
        }
        found.extend(named);
        options.finish(&[])?;
    }
    if let [first, second, ..] = found.as_slice() {
        let (first, second) = (&first.field, &second.field);
        let message = format!("An answer can have one constraint: '{second}' cannot be combined with '{first}'.");
        return Err(ApiError::invalid(second, message));
    }
    let Some(constraint) = found.pop() else { return Ok(None) };
    check_length(&constraint.field, limits.constraints.max_source_bytes, constraint.spec.source_bytes())?;
    Ok(Some(constraint))
}

fn requested(field: String, spec: ConstraintSpec) -> RequestedConstraint {
    RequestedConstraint { field, spec: Arc::new(spec) }
}

/// The four sources under the names that an object gives them.
fn take_named(
    fields: &mut Fields<'_>,
    [json, regex, grammar, choice]: [&str; 4],
    limits: &GatewayLimits,
) -> Result<Vec<RequestedConstraint>, ApiError> {
    let mut found = Vec::new();
    if let Some(schema) = fields.take(json) {
        let path = fields.path(json);
        found.push(requested(path.clone(), schema_spec(&path, schema, limits)?));
    }
    if let Some(source) = fields.string(regex)? {
        found.push(requested(not_empty(fields.path(regex), &source)?, ConstraintSpec::Regex(source)));
    }
    if let Some(source) = fields.string(grammar)? {
        found.push(requested(not_empty(fields.path(grammar), &source)?, ConstraintSpec::Grammar(source)));
    }
    if let Some(texts) = fields.list(choice)? {
        let path = fields.path(choice);
        found.push(requested(path.clone(), choice_spec(&path, texts, limits)?));
    }
    Ok(found)
}

fn not_empty(path: String, source: &str) -> Result<String, ApiError> {
    if source.trim().is_empty() {
        Err(ApiError::invalid(&path, format!("'{path}' must not be empty.")))
    } else {
        Ok(path)
    }
}

/// A schema as an object, or as the text of one. No value is made of it: it is held to its form and its length, and the
/// node that compiles it reads it.
fn schema_spec(path: &str, schema: Raw<'_>, limits: &GatewayLimits) -> Result<ConstraintSpec, ApiError> {
    let limit = limits.constraints.max_source_bytes;
    let source = match schema.kind() {
        Kind::Object | Kind::Bool => {
            let (source, given) = schema.compact(limit).map_err(|error| malformed(path, &error))?;
            check_length(path, limit, given)?;
            source
        }
        Kind::Text => {
            let source = text(path, schema, "a JSON schema")?.into_owned();
            check_length(path, limit, source.len())?;
            match Raw::read(&source) {
                Ok(raw) if matches!(raw.kind(), Kind::Object | Kind::Bool) => {}
                Ok(other) => return Err(wrong_type(path, "a JSON schema", other)),
                Err(error) => return Err(ApiError::invalid(path, format!("'{path}' must be a JSON schema: {error}."))),
            }
            source
        }
        _ => return Err(wrong_type(path, "a JSON schema or its text", schema)),
    };
    Ok(ConstraintSpec::JsonSchema(source))
}

fn check_length(path: &str, limit: usize, given: usize) -> Result<(), ApiError> {
    if given <= limit {
        return Ok(());
    }
    Err(ApiError::invalid(path, format!("'{path}' may have {limit} bytes; given {given}.")))
}

fn choice_spec(path: &str, texts: List<'_>, limits: &GatewayLimits) -> Result<ConstraintSpec, ApiError> {
    if texts.len == 0 || texts.len > limits.constraints.max_choices {
        let (limit, given) = (limits.constraints.max_choices, texts.len);
        return Err(ApiError::invalid(path, format!("'{path}' must have 1 to {limit} entries; given {given}.")));
    }
    let choice = |index, choice: Raw<'_>| {
        let (path, expected) = (format!("{path}[{index}]"), "a string that is not empty");
        let text = text(&path, choice, expected)?;
        if text.is_empty() { Err(wrong_type(&path, expected, choice)) } else { Ok(text.into_owned()) }
    };
    Ok(ConstraintSpec::Choice(texts.map(choice)?))
}

fn take_response_format(
    fields: &mut Fields<'_>,
    limits: &GatewayLimits,
) -> Result<Option<RequestedConstraint>, ApiError> {
    let Some(value) = fields.take("response_format") else { return Ok(None) };
    let mut format = Fields::within("response_format", value)?;
    let kind = format.string("type")?.ok_or(ApiError::MissingParameter("response_format.type"))?;
    let constraint = match kind.as_str() {
        "text" => None,
        "json_object" => Some(requested("response_format".to_owned(), ConstraintSpec::JsonObject)),
        "json_schema" => {
            let path = "response_format.json_schema";
            let inner = format.take("json_schema").ok_or(ApiError::MissingParameter(path))?;
            let mut inner = Fields::within(path, inner)?;
            inner.string("name")?.ok_or(ApiError::MissingParameter("response_format.json_schema.name"))?;
            inner.string("description")?;
            // Answers conform either way.
            inner.boolean("strict")?;
            let field = inner.path("schema");
            let spec = match inner.take("schema") {
                Some(schema) => schema_spec(&field, schema, limits)?,
                None => ConstraintSpec::JsonObject,
            };
            inner.finish(&[])?;
            Some(requested(field, spec))
        }
        _ => {
            let kind: String = kind.chars().take(40).collect();
            let message =
                format!("'response_format.type' supports 'text', 'json_object' and 'json_schema'; given '{kind}'.");
            return Err(ApiError::unsupported("response_format.type", message));
        }
    };
    format.finish(&[])?;
    Ok(constraint)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::testing::json::{any_json, mutated};

    fn parse(body: &Value) -> Result<Option<RequestedConstraint>, ApiError> {
        take_constraint(&mut Fields::of_body(body.to_string().as_bytes())?, &GatewayLimits::default())
    }

    #[test]
    fn each_name_is_understood() {
        let schema = json!({"type": "object"});
        let text = ConstraintSpec::JsonSchema(schema.to_string());
        let choice = ConstraintSpec::Choice(vec!["a".to_owned()]);
        for (body, field, spec) in [
            (json!({"response_format": {"type": "json_object"}}), "response_format", ConstraintSpec::JsonObject),
            (
                json!({"response_format": {"type": "json_schema",
                    "json_schema": {"name": "x", "strict": true, "schema": schema}}}),
                "response_format.json_schema.schema",
                text.clone(),
            ),
            (json!({"guided_json": schema}), "guided_json", text.clone()),
            (json!({"guided_json": schema.to_string()}), "guided_json", text.clone()),
            (json!({"guided_regex": "a+"}), "guided_regex", ConstraintSpec::Regex("a+".to_owned())),
            (json!({"guided_grammar": "start: A"}), "guided_grammar", ConstraintSpec::Grammar("start: A".to_owned())),
            (json!({"guided_choice": ["a"]}), "guided_choice", choice.clone()),
            (json!({"structured_outputs": {"json": schema}}), "structured_outputs.json", text),
            (json!({"structured_outputs": {"choice": ["a"]}}), "structured_outputs.choice", choice),
            (
                json!({"structured_outputs": {"json_object": true}}),
                "structured_outputs.json_object",
                ConstraintSpec::JsonObject,
            ),
        ] {
            let constraint = parse(&body).unwrap().unwrap_or_else(|| panic!("{body}"));
            assert_eq!((constraint.field.as_str(), &*constraint.spec), (field, &spec), "{body}");
        }
        for nothing in [json!({}), json!({"response_format": {"type": "text"}}), json!({"guided_json": null})] {
            assert_eq!(parse(&nothing).unwrap(), None);
        }
    }

    #[test]
    fn every_refusal_names_its_field() {
        let long = "a".repeat((64 << 10) + 1);
        for (body, param) in [
            (json!({"response_format": "json_object"}), "response_format"),
            (json!({"response_format": {}}), "response_format.type"),
            (json!({"response_format": {"type": "grammar"}}), "response_format.type"),
            (json!({"response_format": {"type": "json_object", "x": 1}}), "response_format.x"),
            (json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema"),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}),
                "response_format.json_schema.name",
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": 7}}}),
                "response_format.json_schema.schema",
            ),
            (json!({"guided_json": "{"}), "guided_json"),
            (json!({"guided_json": "7"}), "guided_json"),
            (json!({"guided_regex": 7}), "guided_regex"),
            (json!({"guided_regex": ""}), "guided_regex"),
            (json!({"guided_regex": long}), "guided_regex"),
            (json!({"guided_choice": []}), "guided_choice"),
            (json!({"guided_choice": ["a", 7]}), "guided_choice[1]"),
            (json!({"guided_choice": ["a", ""]}), "guided_choice[1]"),
            (json!({"structured_outputs": {"x": 1}}), "structured_outputs.x"),
            (json!({"structured_outputs": {"json_object": 1}}), "structured_outputs.json_object"),
            (json!({"guided_regex": "a", "guided_choice": ["a"]}), "guided_choice"),
            (json!({"response_format": {"type": "json_object"}, "guided_json": {}}), "guided_json"),
        ] {
            let error = parse(&body).expect_err(&body.to_string());
            let answered = error.body().error;
            assert_eq!(answered.param.as_deref(), Some(param), "{body}");
            assert!(error.status().is_client_error() && answered.message.contains(param), "{}", answered.message);
        }
    }

    #[test]
    fn of_two_constraints_both_are_named() {
        let error = parse(&json!({"guided_regex": "a", "structured_outputs": {"choice": ["a"]}})).unwrap_err();
        assert!(error.to_string().contains("'structured_outputs.choice' cannot be combined with 'guided_regex'"));
    }

    proptest! {
        #[test]
        fn any_change_of_valid_fields_is_accepted_or_refused_with_the_field(body in prop_oneof![
            mutated(json!({"response_format": {"type": "json_schema",
                "json_schema": {"name": "x", "strict": true, "schema": {"type": "object"}}}})),
            mutated(json!({"structured_outputs": {"json": {}, "regex": "a", "choice": ["a"]}})),
            mutated(json!({"guided_json": {}, "guided_regex": "a", "guided_grammar": "b", "guided_choice": ["c"]})),
            any_json(),
        ]) {
            if body.is_object() && let Err(error) = parse(&body) {
                prop_assert!(error.status().is_client_error());
                prop_assert!(error.body().error.param.is_some(), "{}", error);
            }
        }
    }
}
