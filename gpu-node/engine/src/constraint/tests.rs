//! The compiler against ordinary and nasty sources, over a vocabulary of bytes and words.

mod fuzz;
mod nasty;

use std::sync::Arc;

use serde_json::{Value, json};
use souk_protocol::{BaseModel, ConstraintSpec, JobFailure, TenantId, TokenId, TokenizerSpec};
use souk_testkit::base::{self, SMALL, byte_alphabet};

use super::{Constraint, ConstraintCompiler, ConstraintError, ConstraintLimits};

/// Ends answers; a control token like the one after it.
const EOS: TokenId = 256;
const OTHER_CONTROL: TokenId = 257;
/// Tokens beside the single bytes; the ids go on after the control tokens.
const WORDS: [&str; 12] = ["{\"", "\":", "\",", "true", "ye", "yes", " no", "no", "12", "  ", "name", "é"];
const A: TokenId = b'a' as TokenId;
const B: TokenId = b'b' as TokenId;
const C: TokenId = b'c' as TokenId;
/// The head has more rows than the tokenizer has entries.
const VOCAB_SIZE: usize = 300;

/// Each byte is a token, by its value; then come two control tokens, and words.
fn base() -> BaseModel {
    let alphabet = byte_alphabet();
    let written = |text: &str| text.bytes().map(|byte| alphabet[usize::from(byte)]).collect::<String>();
    let bytes = alphabet.iter().map(|character| character.to_string());
    let controls = ["<|end|>", "<|other|>"].map(str::to_owned);
    let tokens = bytes.chain(controls).chain(WORDS.iter().map(|word| written(word))).collect();
    let mut base = base::base("tiny", SMALL);
    base.shape.vocab_size = VOCAB_SIZE;
    base.eos_tokens = vec![EOS];
    base.tokenizer = TokenizerSpec::ByteLevelBpe {
        tokens,
        control_tokens: vec![EOS, OTHER_CONTROL],
        merges: Vec::new(),
        pre: "gpt-2".to_owned(),
    };
    base
}

fn compiler() -> ConstraintCompiler {
    ConstraintCompiler::new(Arc::new(base()), ConstraintLimits::default())
}

fn tenant() -> TenantId {
    TenantId::from_stored("acme")
}

async fn compile(spec: ConstraintSpec) -> Result<Constraint, ConstraintError> {
    compiler().compile(&tenant(), &Arc::new(spec)).await
}

fn schema(schema: &Value) -> ConstraintSpec {
    ConstraintSpec::JsonSchema(schema.to_string())
}

fn regex(source: &str) -> ConstraintSpec {
    ConstraintSpec::Regex(source.to_owned())
}

fn lark(source: &str) -> ConstraintSpec {
    ConstraintSpec::Grammar(source.to_owned())
}

fn choice(texts: &[&str]) -> ConstraintSpec {
    ConstraintSpec::Choice(texts.iter().map(|text| (*text).to_owned()).collect())
}

fn bytes_of(token: TokenId) -> Vec<u8> {
    match u8::try_from(token) {
        Ok(byte) => vec![byte],
        Err(_) => WORDS[token as usize - 258].bytes().collect(),
    }
}

fn allowed(constraint: &mut Constraint) -> Vec<TokenId> {
    let words = constraint.allowed().unwrap();
    (0..VOCAB_SIZE as TokenId).filter(|id| words[*id as usize / 32] >> (id % 32) & 1 == 1).collect()
}

/// An answer of tokens drawn at random, as bytes: ended (`true`) or broken off after `max_tokens`.
fn answer(constraint: &mut Constraint, seed: u64, max_tokens: usize) -> (Vec<u8>, bool) {
    let mut state = seed;
    let mut text = Vec::new();
    for _ in 0..max_tokens {
        let allowed = allowed(constraint);
        assert_eq!(allowed.contains(&EOS), constraint.may_end(), "{}", String::from_utf8_lossy(&text));
        // An end where there may be one, so that answers are short.
        if allowed.contains(&EOS) && (state >> 60 < 8 || allowed.len() == 1) {
            constraint.accept(EOS).unwrap();
            return (text, true);
        }
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let token = allowed[(state >> 33) as usize % allowed.len()];
        if token == EOS {
            continue;
        }
        constraint.accept(token).unwrap();
        text.extend(bytes_of(token));
    }
    (text, false)
}

#[tokio::test]
async fn a_choice_is_exactly_one_of_its_texts() {
    let texts = ["yes", "no", "a \"quoted\"\nline", "né"];
    let compiler = compiler();
    for seed in 0..20 {
        let mut constraint = compiler.compile(&tenant(), &Arc::new(choice(&texts))).await.unwrap();
        let (text, ended) = answer(&mut constraint, seed << 40, 40);
        assert!(ended && texts.contains(&std::str::from_utf8(&text).unwrap()), "{text:?}");
    }
}

#[tokio::test]
async fn the_answer_may_end_exactly_where_the_grammar_does() {
    let mut constraint = compile(regex("a(bc)?")).await.unwrap();
    assert_eq!(allowed(&mut constraint), [A]);
    constraint.accept(A).unwrap();
    assert_eq!(allowed(&mut constraint), [B, EOS]);
    constraint.accept(B).unwrap();
    assert_eq!(allowed(&mut constraint), [C]);
    assert!(!constraint.is_complete());
    constraint.accept(C).unwrap();
    assert!(constraint.is_complete());
    assert_eq!(allowed(&mut constraint), [EOS]);
    assert_eq!(constraint.accept(TokenId::from(b'x')), Err(ConstraintError::NotAllowed(TokenId::from(b'x'))));
}

#[tokio::test]
async fn a_token_of_several_bytes_counts_as_those_bytes() {
    let mut constraint = compile(choice(&["yes"])).await.unwrap();
    let [ye, yes] = [262, 263];
    assert_eq!(allowed(&mut constraint), [TokenId::from(b'y'), ye, yes]);
    constraint.accept(ye).unwrap();
    assert_eq!(allowed(&mut constraint), [TokenId::from(b's')]);
}

#[tokio::test]
async fn a_token_that_is_not_allowed_is_refused() {
    let mut constraint = compile(regex("[0-9]{3}")).await.unwrap();
    assert_eq!(constraint.accept(TokenId::from(b'x')), Err(ConstraintError::NotAllowed(TokenId::from(b'x'))));
    let mut constraint = compile(regex("[0-9]{3}")).await.unwrap();
    assert_eq!(constraint.accept(EOS), Err(ConstraintError::NotAllowed(EOS)));
}

#[tokio::test]
async fn only_a_grammar_that_names_a_control_token_allows_it() {
    let mut free = compile(lark("start: /(.|\\n)*/")).await.unwrap();
    let everything = allowed(&mut free);
    assert!(everything.contains(&EOS) && !everything.contains(&OTHER_CONTROL));
    assert!(everything.iter().all(|&token| token < 258 + WORDS.len() as TokenId), "rows without an entry");
    let mut naming = compile(lark("start: \"a\" <|other|> \"b\"")).await.unwrap();
    naming.accept(A).unwrap();
    assert_eq!(allowed(&mut naming), [OTHER_CONTROL]);
}

#[tokio::test]
async fn any_object_is_a_json_object() {
    let compiler = compiler();
    let spec = Arc::new(ConstraintSpec::JsonObject);
    let mut num_ended = 0;
    for seed in 0..30 {
        let mut constraint = compiler.compile(&tenant(), &spec).await.unwrap();
        let (text, ended) = answer(&mut constraint, seed << 40, 400);
        if ended {
            num_ended += 1;
            let value: Value = serde_json::from_slice(&text).unwrap();
            assert!(value.is_object(), "{value}");
        }
    }
    assert!(num_ended > 3, "{num_ended}");
}

#[tokio::test]
async fn json_conforms_to_its_schema() {
    let compiler = compiler();
    let spec = Arc::new(schema(&json!({
        "type": "object",
        "properties": {
            "kind": {"enum": ["cat", "dog"]},
            "age": {"type": "integer", "minimum": 3, "maximum": 17},
            "tags": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
        },
        "required": ["kind", "age", "tags"],
        "additionalProperties": false,
    })));
    for seed in 0..30 {
        let mut constraint = compiler.compile(&tenant(), &spec).await.unwrap();
        let (text, ended) = answer(&mut constraint, seed << 40, 1000);
        assert!(ended, "{}", String::from_utf8_lossy(&text));
        let value: Value = serde_json::from_slice(&text).unwrap();
        assert!(["cat", "dog"].contains(&value["kind"].as_str().unwrap()), "{value}");
        assert!((3..=17).contains(&value["age"].as_i64().unwrap()), "{value}");
        let tags = value["tags"].as_array().unwrap();
        assert!((1..=3).contains(&tags.len()) && tags.iter().all(Value::is_boolean), "{value}");
        assert_eq!(value.as_object().unwrap().len(), 3);
    }
}

#[tokio::test]
async fn white_space_in_json_is_bounded() {
    let mut constraint = compile(ConstraintSpec::JsonObject).await.unwrap();
    constraint.accept(TokenId::from(b'{')).unwrap();
    let mut num_blanks = 0;
    while allowed(&mut constraint).contains(&TokenId::from(b' ')) {
        constraint.accept(TokenId::from(b' ')).unwrap();
        num_blanks += 1;
        assert!(num_blanks <= 32);
    }
    assert!(num_blanks >= 16, "{num_blanks}");
}

#[tokio::test]
async fn the_same_constraint_is_compiled_once_and_shares_no_state() {
    let compiler = compiler();
    let spec = Arc::new(choice(&["ab", "ac"]));
    let mut first = compiler.compile(&tenant(), &spec).await.unwrap();
    first.accept(A).unwrap();
    let tenant = tenant();
    let copies = futures::future::join_all((0..8).map(|_| compiler.compile(&tenant, &spec))).await;
    for copy in copies {
        assert_eq!(allowed(&mut copy.unwrap()), [A]);
    }
    assert_eq!(allowed(&mut first), [B, C]);
}

#[tokio::test]
async fn what_is_wrong_with_a_source_is_said() {
    for (spec, expected) in [
        (regex("a("), "invalid regex"),
        (regex("a\\"), "single backslash"),
        (regex("(?=a)b"), "look-around"),
        (lark("start: undefined_rule"), "undefined_rule"),
        (lark("no start here"), "Expected"),
        (lark(""), "start"),
        (schema(&json!(7)), "an object or a boolean"),
        (ConstraintSpec::JsonSchema("{".to_owned()), "not JSON"),
        (schema(&json!({"type": "thing"})), "thing"),
        (schema(&json!({"not": {"type": "string"}})), "not"),
        (schema(&json!({"uniqueItems": true})), "uniqueItems"),
        (schema(&json!({"if": {"type": "string"}, "then": {"maxLength": 2}})), "if"),
        (
            schema(&json!({"$ref": "https://example.com/schema.json"})),
            "Only absolute $ref's (#/...) are supported; ref",
        ),
        (schema(&json!({"$ref": "file:///etc/passwd"})), "Only absolute"),
        (schema(&json!({"type": []})), "empty"),
        (schema(&json!({"enum": []})), "empty"),
        (schema(&json!({"type": "string", "minLength": 5, "maxLength": 2})), "minLength (5)"),
        (schema(&json!({"type": "string", "minLength": -1})), "minLength"),
        (schema(&json!({"type": "string", "maxLength": u64::MAX})), "18446744073709551615"),
        (schema(&json!({"type": "integer", "minimum": 5, "maximum": 2})), "minimum (5)"),
        (schema(&json!({"type": "integer", "multipleOf": 0})), "multiple"),
        (schema(&json!({"items": {"multipleOf": 4e9}})), "multipleOf may be at most 100000000; given 4000000000"),
        (schema(&json!({"type": "object", "required": ["a"], "additionalProperties": false})), "'a'"),
        (schema(&json!({"type": "object", "required": "a"})), "required"),
        (schema(&json!({"type": "object", "additionalProperties": 7})), "object or boolean"),
        (schema(&json!({"type": "object", "patternProperties": {"(": {}}})), "unclosed"),
        (schema(&json!({"type": "string", "format": "thing"})), "format"),
        (schema(&json!({"type": "string", "pattern": "^(?=a)b"})), "look-around"),
        (schema(&json!({"allOf": [{"type": "integer"}, {"type": "string"}]})), "incompatible"),
        (regex(r"(a)\1"), "backreferences"),
        (regex("(?<!a)b"), "look-around"),
        (regex("a^b"), "lookarounds"),
        (regex(r"\p{Nope}"), "property not found"),
        (lark("root ::= \"a\" | \"b\""), "rules are written `name: …`"),
        (lark("rule: \"a\""), "no start rule"),
        (lark("start: \"a\"\nstart: \"b\""), "duplicate"),
        (lark("start: A\nA: A \"a\""), "circular"),
        (lark("start: <|absent|>"), "<|absent|>"),
        (lark("start: @absent"), "@absent"),
        (schema(&json!({"$ref": "#/$defs/absent"})), "absent"),
        (schema(&json!({"type": "string", "pattern": "("})), "regex"),
        (choice(&[]), "nothing to choose"),
    ] {
        let error = compile(spec.clone()).await.err().unwrap_or_else(|| panic!("{spec:?}"));
        let message = error.to_string();
        assert!(matches!(error, ConstraintError::Invalid(_)), "{spec:?}: {error:?}");
        assert!(message.contains(expected) && !message.contains('\n'), "{spec:?}: {message}");
    }
}

#[tokio::test]
async fn what_no_text_can_meet_is_refused() {
    assert_eq!(compile(regex(r"[^\s\S]")).await.err(), Some(ConstraintError::NoText));
    let list_of_itself = json!({"type": "array", "minItems": 1, "items": {"$ref": "#"}});
    for spec in [
        lark("start: start \"a\""),
        lark("start: \"a\" start"),
        lark("start: a\na: b\nb: a"),
        lark("start: a b\na: \"x\" b | \"y\"\nb: \"(\" b \")\" | a b"),
        schema(&json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}})),
        schema(&json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]})),
        schema(&list_of_itself),
    ] {
        assert_eq!(compile(spec.clone()).await.err(), Some(ConstraintError::Endless), "{spec:?}");
    }
    let tree = json!({"type": "object", "properties": {"left": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["left"]});
    for spec in [
        lark("start: \"a\" start | \"b\""),
        lark("start: x*\nx: \"(\" start \")\""),
        schema(&tree),
        schema(&json!({"type": "array", "items": {"$ref": "#"}})),
    ] {
        assert_eq!(compile(spec.clone()).await.err(), None, "{spec:?}");
    }
}

#[tokio::test]
async fn unusual_sources_mean_what_they_say() {
    for (spec, texts) in [
        (regex("^a$|^b$"), &["a", "b"][..]),
        (regex(r"\A(?i)A\z"), &["a", "A"]),
        (regex("^$"), &[""]),
        (regex("(?P<name>a)|"), &["a", ""]),
        (regex(r"\p{Greek}{0}é"), &["é"]),
        (lark("start: start \"a\" | \"b\"\n"), &["b", "ba", "baa", "baaa"]),
        (lark("start: x*\nx: \"\""), &[""]),
        (lark("start: %json {\"enum\": [1, 2]}"), &["1", "2"]),
        (choice(&["\u{0}", "\u{7f}", "\u{85}\u{2028}", "🦀\\"]), &["\u{0}", "\u{7f}", "\u{85}\u{2028}", "🦀\\"]),
        (choice(&["<|end|>", "/a/", "%ignore x"]), &["<|end|>", "/a/", "%ignore x"]),
        (schema(&json!({"type": ["integer", "null"], "maximum": 1, "minimum": 0})), &["0", "1", "null"]),
        (schema(&json!({"enum": ["a\"", null, 7]})), &["\"a\\\"\"", "null", "7"]),
        // What a schema says beyond the standard is a remark.
        (schema(&json!({"const": true, "title": "x", "remark": {"a": 1}})), &["true"]),
    ] {
        let compiler = compiler();
        let spec = Arc::new(spec);
        let mut met = std::collections::BTreeSet::new();
        for seed in 0..60 {
            let mut constraint =
                compiler.compile(&tenant(), &spec).await.unwrap_or_else(|error| panic!("{spec:?}: {error}"));
            let (text, ended) = answer(&mut constraint, seed << 58 | seed << 33, 8);
            let text = String::from_utf8_lossy(&text).into_owned();
            assert!(!ended || texts.contains(&text.as_str()), "{spec:?}: {text:?}");
            met.extend(ended.then_some(text));
        }
        assert!(met.len() * 2 > texts.len(), "{spec:?}: {met:?}");
    }
}

#[tokio::test]
async fn a_vocabulary_that_cannot_be_read_fails_the_job_and_not_the_node() {
    let compiler = ConstraintCompiler::new(Arc::new(base::base("tiny", SMALL)), ConstraintLimits::default());
    let error = compiler.compile(&tenant(), &Arc::new(ConstraintSpec::JsonObject)).await.err().unwrap();
    assert!(matches!(&error, ConstraintError::Internal(cause) if cause.contains("decoder")), "{error}");
    assert!(matches!(error.refusal(), JobFailure::Internal(_)), "it is not the caller's fault");
}

#[tokio::test]
async fn a_constraint_stands_after_what_another_attempt_has_made() {
    let (compiler, spec) = (compiler(), Arc::new(regex("a(bc)?")));
    let mut constraint = compiler.compile_after(&tenant(), &spec, &[A, B]).await.unwrap();
    assert_eq!(allowed(&mut constraint), [C]);
    let whole = compiler.compile_after(&tenant(), &spec, &[A, B, C, EOS]).await.unwrap();
    assert!(whole.is_complete());
    let error = compiler.compile_after(&tenant(), &spec, &[A, C]).await.err();
    assert_eq!(error, Some(ConstraintError::NotAllowed(C)));
}

#[tokio::test]
async fn a_token_is_judged_by_the_set_that_was_just_computed() {
    let mut constraint = compile(regex("ab")).await.unwrap();
    assert_eq!(allowed(&mut constraint), [A]);
    for never in [B, EOS, OTHER_CONTROL, VOCAB_SIZE as TokenId, TokenId::MAX] {
        let mut constraint = compile(regex("ab")).await.unwrap();
        constraint.allowed().unwrap();
        assert_eq!(constraint.accept(never), Err(ConstraintError::NotAllowed(never)));
    }
    constraint.accept(A).unwrap();
    // The set is that of another place now.
    assert_eq!(constraint.accept(A), Err(ConstraintError::NotAllowed(A)));
}

#[tokio::test]
async fn one_text_may_begin_another_and_may_stand_twice_in_a_choice() {
    let mut constraint = compile(choice(&["a", "ab", "a"])).await.unwrap();
    assert_eq!(allowed(&mut constraint), [A]);
    constraint.accept(A).unwrap();
    assert_eq!(allowed(&mut constraint), [B, EOS]);
    constraint.accept(B).unwrap();
    assert!(constraint.is_complete());
}

#[tokio::test]
async fn a_thousand_texts_are_an_ordinary_choice() {
    let texts: Vec<String> = (0..1024).map(|number| format!("text number {}", number * 7919)).collect();
    let compiler = compiler();
    for seed in 0..5 {
        let mut constraint =
            compiler.compile(&tenant(), &Arc::new(ConstraintSpec::Choice(texts.clone()))).await.unwrap();
        let (text, ended) = answer(&mut constraint, seed << 40, 60);
        assert!(ended && texts.contains(&String::from_utf8(text.clone()).unwrap()), "{text:?}");
    }
}

#[tokio::test]
async fn ordinary_multiples_are_within_the_limits() {
    for divisor in [json!(2), json!(1000), json!(3600), json!(86_400), json!(0.01), json!(0.05)] {
        for kind in ["integer", "number"] {
            let multiples = schema(&json!({"type": kind, "multipleOf": divisor, "minimum": 0}));
            assert_eq!(compile(multiples).await.err(), None, "{kind} {divisor}");
        }
    }
}
