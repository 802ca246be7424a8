use proptest::prelude::*;
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

#[test]
fn a_reference_is_followed_within_the_document_with_what_stands_beside_it() {
    let schema = json!({
        "$defs": {
            "word": { "type": "string", "maxLength": 3 },
            "a/b c": { "type": "integer" },
            "tree": { "type": "object", "properties": { "of": { "$ref": "#/$defs/tree" }, "name": { "$ref": "#/$defs/word" } } },
        },
        "properties": {
            "words": { "items": { "$ref": "#/$defs/word", "minLength": 2 } },
            "number": { "$ref": "#/$defs/a~1b%20c" },
            "tree": { "$ref": "#/$defs/tree" },
        },
    });
    assert_eq!(problem(&schema), None);
    let good = json!({ "words": ["ab", "abc"], "number": 1, "tree": { "of": { "of": { "name": "x" } } } });
    assert_eq!(subjects(&schema, &good), Vec::<String>::new());
    let bad = json!({ "words": ["a", "abcd"], "number": "1", "tree": { "of": { "of": { "name": "long" } } } });
    let mut found = subjects(&schema, &bad);
    found.sort_unstable();
    assert_eq!(found, ["config.number", "config.tree.of.of.name", "config.words[0]", "config.words[1]"]);
}

#[test]
fn references_in_a_circle_end() {
    for schema in [
        json!({ "$ref": "#" }),
        json!({ "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } }, "$ref": "#/$defs/a" }),
    ] {
        assert_eq!(problem(&schema), None);
        assert_eq!(subjects(&schema, &json!({ "x": [1, { "y": null }] })), Vec::<String>::new());
    }
}

#[test]
fn a_pattern_is_looked_for_anywhere_in_a_text() {
    let schema = json!({ "items": { "pattern": "^[a-z]+$" }, "properties": { "any": { "pattern": "b" } } });
    assert_eq!(subjects(&schema, &json!(["abc", "a1", "", 7])), ["config[1]", "config[2]"]);
    assert_eq!(subjects(&schema, &json!({ "any": "abc" })), Vec::<String>::new());
    assert_eq!(subjects(&schema, &json!({ "any": "acc" })), ["config.any"]);
    // A name of a field that is called as the word is no pattern.
    assert_eq!(
        problem(&json!({ "properties": { "pattern": { "type": "string" }, "$ref": { "type": "string" } } })),
        None
    );
}

#[test]
fn what_a_schema_cannot_say_is_told_when_it_is_published_and_where_it_is_used() {
    let many: Vec<_> =
        (0..40).map(|number| (format!("p{number}"), json!({ "pattern": format!("x{number}") }))).collect();
    let many = Value::Object(many.into_iter().collect());
    let mut deep = json!({});
    for _ in 0..40 {
        deep = json!({ "items": deep });
    }
    for (schema, told) in [
        (
            json!({ "$ref": "https://example.com/schema.json" }),
            "refers to \"https://example.com/schema.json\", which is not a place",
        ),
        (json!({ "$ref": "#/$defs/absent" }), "refers to \"#/$defs/absent\""),
        (json!({ "$ref": "#/%zz" }), "refers to \"#/%zz\""),
        (json!({ "$ref": 7 }), "refers to 7"),
        (json!({ "items": { "pattern": "(?=a)" } }), "look-around"),
        (json!({ "properties": { "a": { "pattern": "(" } } }), "unclosed group"),
        (json!({ "$defs": { "a": { "pattern": "(\\w{1,100}){1,100}" } } }), "exceeds size limit"),
        (json!({ "additionalProperties": { "pattern": "x".repeat(1025) } }), "it has 1025 bytes, at most 1024"),
        (json!({ "properties": many }), "more than 32 patterns"),
        (deep, "more than 32 deep"),
    ] {
        let problem = problem(&schema).unwrap_or_default();
        assert!(problem.contains(told), "{schema}: {problem}");
    }
    // One that was published before this was checked does not let anything through.
    assert_eq!(subjects(&json!({ "$ref": "#/$defs/absent" }), &json!({})), ["config"]);
    assert_eq!(subjects(&json!({ "items": { "pattern": "(" } }), &json!(["a", "b"])), ["config[0]", "config[1]"]);
}

/// Schemas of patterns, lists and objects, with these leaves too.
fn schemas_of(more: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Value> {
    let pattern = "[a-c]{1,3}".prop_map(|pattern| json!({ "pattern": format!("^{pattern}") }));
    let leaf = prop_oneof![Just(json!({})), Just(json!({ "type": "string" })), pattern, more];
    leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|schema| json!({ "items": schema })),
            (inner.clone(), inner).prop_map(|(a, b)| json!({ "properties": { "a": a }, "additionalProperties": b })),
        ]
    })
}

/// Schemas that refer to three places, which refer to none.
fn schemas() -> impl Strategy<Value = Value> {
    let reference = (0..3).prop_map(|place| json!({ "$ref": format!("#/$defs/d{place}") }));
    let places = prop::collection::vec(schemas_of(Just(json!(false))), 3);
    (schemas_of(reference), places).prop_map(|(mut root, defs)| {
        let defs: serde_json::Map<_, _> = defs.into_iter().enumerate().map(|(at, of)| (format!("d{at}"), of)).collect();
        root["$defs"] = Value::Object(defs);
        root
    })
}

/// Configurations of texts, lists and objects.
fn configs() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof!["[a-d]{0,4}".prop_map(Value::from), any::<i32>().prop_map(Value::from)];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            (inner.clone(), inner).prop_map(|(a, b)| json!({ "a": a, "b": b })),
        ]
    })
}

/// The same schema with what references name in their place.
fn unfolded(root: &Value, schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        return root.pointer(&reference[1..]).unwrap().clone();
    }
    for place in ["/items", "/additionalProperties", "/properties/a"] {
        if let Some(inner) = schema.pointer_mut(place) {
            *inner = unfolded(root, inner);
        }
    }
    schema
}

proptest! {
    #[test]
    fn a_schema_with_references_says_what_it_says_with_them_put_in_place(schema in schemas(), config in configs()) {
        prop_assert_eq!(problem(&schema), None);
        prop_assert_eq!(subjects(&schema, &config), subjects(&unfolded(&schema, &schema), &config));
    }

    #[test]
    fn any_pattern_and_any_reference_is_judged_and_breaks_nothing(
        pattern in ".{0,40}|[a-z(){}*+|\\\\\\[\\]0-9,]{0,40}", text in ".{0,200}", reference in ".{0,30}|#/[a-z$/~%0-9]{0,20}",
    ) {
        let schema = json!({ "items": { "pattern": pattern }, "properties": { "a": { "$ref": reference } } });
        let config = json!([text, text]);
        let places = subjects(&schema, &config).len();
        prop_assert!(places == 0 || places == 2, "both are the same text");
        let is_followed = subjects(&schema, &json!({ "a": text })).is_empty();
        prop_assert!(problem(&schema).is_some() || is_followed || places == 2, "what cannot be said is told beforehand");
    }
}
