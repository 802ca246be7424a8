//! Arbitrary sources: no panic, no failure of ours, and what compiles can be followed.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// Follows a constraint for a few tokens; what is allowed must be accepted.
fn follow(mut constraint: Constraint, seed: u64) {
    let mut state = seed;
    for _ in 0..12 {
        let allowed = match constraint.allowed() {
            Ok(_) => allowed(&mut constraint),
            Err(ConstraintError::TooComplex(_) | ConstraintError::NoText) => return,
            Err(error) => panic!("{error:?}"),
        };
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let token = allowed[(state >> 33) as usize % allowed.len()];
        match constraint.accept(token) {
            Ok(()) if token == EOS => return,
            Ok(()) => {}
            Err(ConstraintError::TooComplex(_)) => return,
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn holds(spec: &ConstraintSpec, seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    match runtime.block_on(compile(spec.clone())) {
        Ok(constraint) => follow(constraint, seed),
        Err(ConstraintError::Internal(cause)) => panic!("{spec:?}: {cause}"),
        Err(error) => assert!(error.to_string().len() < 600),
    }
}

/// Text made of the pieces that the languages are made of.
fn pieces(pieces: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(select(pieces), 0..24).prop_map(|pieces| pieces.concat())
}

const REGEX_PIECES: &[&str] = &[
    "a", "b", "é", ".", "*", "+", "?", "(", ")", "[", "]", "^", "$", "|", "{2}", "{1,3}", "\\", "\\d", "\\p{L}",
    "(?i)", "-", "/", "\n", "&", "~",
];

const GRAMMAR_PIECES: &[&str] = &[
    "start",
    ": ",
    "a",
    "A",
    "\n",
    "\"x\"",
    "/y+/",
    " | ",
    "(",
    ")",
    "[",
    "]",
    "*",
    "+",
    "?",
    "~",
    "{2}",
    "%ignore ",
    "%json {}",
    "%import common.INT",
    "<|other|>",
    "<[5]>",
    "->",
    " & ",
    "@x",
    "//c\n",
    "[lazy]",
    "[max_tokens=3]",
    "\\",
];

/// Objects whose keys are a schema's and whose values need not make sense.
fn schema_like() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (-3i64..9).prop_map(Value::from),
        Just(json!(1e300)),
        select(vec!["string", "integer", "number", "object", "array", "null", "date", "#", "#/$defs/a", "^a*$", "("])
            .prop_map(Value::from),
        Just(Value::Null),
    ];
    let key = select(vec![
        "type",
        "properties",
        "required",
        "items",
        "prefixItems",
        "enum",
        "const",
        "anyOf",
        "oneOf",
        "allOf",
        "$ref",
        "$defs",
        "a",
        "minimum",
        "maximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "pattern",
        "format",
        "minItems",
        "maxItems",
        "additionalProperties",
        "patternProperties",
        "x-guidance",
    ]);
    leaf.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            3 => prop::collection::hash_map(key.clone(), inner.clone(), 0..5)
                .prop_map(|map| map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            1 => prop::collection::vec(inner, 0..4).prop_map(Value::Array),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_regex_works_or_is_refused(source in prop_oneof![pieces(REGEX_PIECES), any::<String>()], seed: u64) {
        holds(&ConstraintSpec::Regex(source), seed);
    }

    #[test]
    fn any_grammar_works_or_is_refused(
        source in prop_oneof![pieces(GRAMMAR_PIECES).prop_map(|rest| format!("start: {rest}")), any::<String>()],
        seed: u64,
    ) {
        holds(&ConstraintSpec::Grammar(source), seed);
    }

    #[test]
    fn any_schema_works_or_is_refused(schema in schema_like(), seed: u64) {
        holds(&ConstraintSpec::JsonSchema(schema.to_string()), seed);
    }

    #[test]
    fn any_choice_works(texts in prop::collection::vec(".{1,12}", 1..6), seed: u64) {
        holds(&ConstraintSpec::Choice(texts), seed);
    }
}

/// Compiles a source as text of each language, and follows what compiles.
fn compiled(language: &str, spec: fn(String) -> ConstraintSpec) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let compiler = compiler();
    souk_testkit::fuzz(language, |bytes| {
        let spec = Arc::new(spec(String::from_utf8_lossy(bytes).into_owned()));
        match runtime.block_on(compiler.compile(&TenantId::from_stored("fuzz"), &spec)) {
            Ok(constraint) => {
                follow(constraint, bytes.len() as u64);
                "followed".to_owned()
            }
            Err(ConstraintError::Internal(cause)) => panic!("{cause}"),
            Err(error) => {
                assert!(error.to_string().len() < 600);
                error.to_string()
            }
        }
    });
}

#[test]
fn any_bytes_of_a_regex_are_compiled_or_refused() {
    compiled("constraint_regex", ConstraintSpec::Regex);
}

#[test]
fn any_bytes_of_a_grammar_are_compiled_or_refused() {
    compiled("constraint_grammar", ConstraintSpec::Grammar);
}

#[test]
fn any_bytes_of_a_schema_are_compiled_or_refused() {
    compiled("constraint_schema", ConstraintSpec::JsonSchema);
}
