//! Sources made to explode: each works or is refused, in bounded time and memory, and nothing panics.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::*;

/// The limit of compiling, a wait for the thread, and room for a busy machine.
const MAX_TIME: Duration = Duration::from_secs(8);

/// What may become of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It compiles, and answers can be made, until one goes beyond the limits.
    Works,
    /// It is refused as what it is.
    Refused,
}

fn nested_schema(depth: usize) -> String {
    let open = r#"{"type":"object","required":["a"],"properties":{"a":"#.repeat(depth);
    format!("{open}{{\"type\":\"null\"}}{}", "}}".repeat(depth))
}

fn list(count: usize, separator: &str, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(separator)
}

/// Rules each of which refers to the next.
fn chain(count: usize, name: &str) -> String {
    let rules = list(count, "\n", |i| format!("{name}{i}:{name}{}?\"b\"", i + 1));
    format!("start:{name}0\n{rules}\n{name}{count}:\"a\"")
}

/// Text that contains each of these.
fn contains_all(count: usize) -> String {
    format!("start: A\nA: {}", list(count, " & ", |i| format!("/(.|\n)*k{i}(.|\n)*/")))
}

fn references(count: usize) -> String {
    let defs = list(count, ",", |i| format!(r##""{i}":{{"items":{{"$ref":"#/$defs/{}"}}}}"##, i + 1));
    format!(r##"{{"$ref":"#/$defs/0","$defs":{{{defs},"{count}":{{}}}}}}"##)
}

fn sources() -> Vec<(&'static str, ConstraintSpec, Fate)> {
    let json = ConstraintSpec::JsonSchema;
    vec![
        ("a repetition", regex("a{1,100000}"), Fate::Works),
        ("repetitions of repetitions", regex("((((a{1,100}){1,100}){1,100}){1,100}){1,100}"), Fate::Works),
        ("a repetition beyond numbers", regex("a{1,99999999999}"), Fate::Refused),
        ("a regex that makes others backtrack", regex("(a|aa)*(a|ab)*([a-z]*x){20}"), Fate::Works),
        ("an exponential automaton", lark("start: A\nA: /(.|\\n)*[ab][a-z]{30}/"), Fate::Works),
        ("very many optional letters", regex(&format!("{}{}", "a?".repeat(10_000), "a".repeat(10_000))), Fate::Refused),
        ("optional letters behind others", regex(&format!("x{{20}}{}", "a?".repeat(3000))), Fate::Refused),
        ("as many of them as a list may have", regex(&format!("x{{20}}{}", "a?".repeat(690))), Fate::Works),
        ("an intersection of many", lark(&contains_all(12)), Fate::Refused),
        ("an intersection of two", lark(&contains_all(2)), Fate::Works),
        (
            "an emptiness behind an alternative that takes long to see",
            lark("start: A\nA: /x/ | /y/ B\nB: /(a|b)*a(a|b){25}c/ & ~/(a|b)*a(a|b){25}c/"),
            Fate::Refused,
        ),
        ("multiples of a great prime", json(r#"{"type":"integer","multipleOf":999983}"#.to_owned()), Fate::Refused),
        ("multiples beyond numbers", json(r#"{"type":"integer","multipleOf":4000000000}"#.to_owned()), Fate::Refused),
        (
            "the least of numbers",
            json(format!(r#"{{"type":"integer","minimum":{},"maximum":9}}"#, i64::MIN)),
            Fate::Refused,
        ),
        (
            "very many choices",
            ConstraintSpec::Choice((0..8000).map(|i| format!("{}", i * 7919)).collect()),
            Fate::Works,
        ),
        ("very many optional groups", regex(&"(a?b*)".repeat(8000)), Fate::Refused),
        ("parentheses of a regex", regex(&format!("{}a{}", "(".repeat(20_000), ")".repeat(20_000))), Fate::Refused),
        (
            "parentheses of a grammar",
            lark(&format!("start: {}\"a\"{}", "(".repeat(20_000), ")".repeat(20_000))),
            Fate::Refused,
        ),
        ("a rule of itself", lark("start: a\na: a"), Fate::Refused),
        ("a schema of itself", json(r##"{"$ref":"#"}"##.to_owned()), Fate::Refused),
        ("an ambiguous recursion", lark("start: start start | \"a\" | "), Fate::Works),
        ("a huge repetition of a rule", lark("start: x{1,1000000}\nx: \"a\"{1,1000000}"), Fate::Works),
        ("a chain of rules", lark(&chain(7000, "a")), Fate::Refused),
        ("a chain of terminals", lark(&chain(7000, "A")), Fate::Refused),
        (
            "doubling terminals",
            lark(&format!(
                "start: T0\n{}\nT40: \"a\"|\"b\"",
                list(40, "\n", |i| format!("T{i}: T{} T{}", i + 1, i + 1))
            )),
            Fate::Refused,
        ),
        ("a schema as deep as JSON may be", json(nested_schema(41)), Fate::Works),
        ("a schema deeper than that", json(nested_schema(600)), Fate::Refused),
        ("a chain of references", json(references(1900)), Fate::Refused),
        (
            "a giant enumeration",
            json(format!(r#"{{"enum":[{}]}}"#, list(3000, ",", |i| format!("\"value {i}\"")))),
            Fate::Works,
        ),
        (
            "a product of alternatives",
            json(format!(
                r#"{{"allOf":[{}]}}"#,
                list(14, ",", |i| format!(r#"{{"oneOf":[{{"required":["a{i}"]}},{{"required":["b{i}"]}}]}}"#))
            )),
            Fate::Refused,
        ),
        (
            "a list that never ends",
            json(r#"{"type":"array","minItems":1000000000,"items":{}}"#.to_owned()),
            Fate::Works,
        ),
        ("no text at all", json("false".to_owned()), Fate::Refused),
    ]
}

#[tokio::test]
async fn every_nasty_source_works_or_is_refused_in_time() {
    for (name, spec, fate) in sources() {
        let begin = Instant::now();
        let compiled = compile(spec).await;
        let took = begin.elapsed();
        assert!(took < MAX_TIME, "{name} took {took:?}");
        match compiled {
            Ok(mut constraint) => {
                assert_eq!(fate, Fate::Works, "{name}");
                for _ in 0..60 {
                    match constraint.allowed() {
                        Ok(_) => {}
                        Err(ConstraintError::TooComplex(_)) => break,
                        Err(error) => panic!("{name}: {error:?}"),
                    }
                    let next = allowed(&mut constraint).into_iter().find(|&token| token != EOS);
                    let Some(token) = next else { break };
                    match constraint.accept(token) {
                        Ok(()) => {}
                        Err(ConstraintError::TooComplex(_)) => break,
                        Err(error) => panic!("{name}: {error:?}"),
                    }
                }
            }
            Err(error) => {
                assert_eq!(fate, Fate::Refused, "{name}: {error}");
                assert!(
                    !matches!(
                        error,
                        ConstraintError::Internal(_) | ConstraintError::Busy { .. } | ConstraintError::Left
                    ),
                    "{name}: {error:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_source_beyond_the_limit_is_not_even_read() {
    let error = compile(regex(&"a".repeat((64 << 10) + 1))).await.err();
    assert_eq!(error, Some(ConstraintError::TooLong { limit: 65_536, given: 65_537 }));
}

/// As many classes in both cases as may be: some 0.2 s.
fn slow(number: usize) -> Arc<ConstraintSpec> {
    Arc::new(regex(&format!("(?i){}{number}", r"\p{L}".repeat(199))))
}

#[tokio::test]
async fn what_compiles_for_too_long_is_refused_at_the_limit_and_its_thread_is_free_soon() {
    let limits = ConstraintLimits {
        compile_timeout: Duration::from_millis(10),
        max_concurrent_compiles: 1,
        ..ConstraintLimits::default()
    };
    let compiler = ConstraintCompiler::new(Arc::new(base()), limits);
    // The vocabulary is prepared first, which is not on the clock.
    while compiler.compile(&tenant(), &Arc::new(choice(&["warm"]))).await.is_err() {}
    let slow = slow(0);
    let begin = Instant::now();
    let error = compiler.compile(&tenant(), &slow).await.err();
    assert_eq!(error, Some(ConstraintError::TooSlow { limit: limits.compile_timeout }));
    // The refusal is remembered while its thread works.
    assert_eq!(compiler.compile(&tenant(), &slow).await.err(), error);
    let next = Arc::new(choice(&["yes", "no"]));
    while let Err(error) = compiler.compile(&tenant(), &next).await {
        assert!(matches!(error, ConstraintError::Busy { .. } | ConstraintError::TooSlow { .. }), "{error}");
        assert!(begin.elapsed() < MAX_TIME, "{:?}", begin.elapsed());
    }
}

#[tokio::test]
async fn who_asks_for_much_waits_for_itself_and_a_newcomer_does_not() {
    let compiler = compiler();
    compiler.compile(&tenant(), &Arc::new(choice(&["warm"]))).await.unwrap();
    let floods: Vec<_> = (0..12)
        .map(|number| {
            let compiler = compiler.clone();
            tokio::spawn(async move { compiler.compile(&tenant(), &slow(number)).await.map(|_| ()) })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let other = TenantId::from_stored("other");
    let one_field = schema(&json!({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}));
    compiler.compile(&other, &Arc::new(one_field)).await.unwrap();
    assert!(floods.iter().filter(|flood| flood.is_finished()).count() < 6, "they go one by one");
    // What nobody waits for is not begun, and what has begun ends early.
    floods.iter().for_each(tokio::task::JoinHandle::abort);
    let begin = Instant::now();
    compiler.compile(&tenant(), &Arc::new(choice(&["yes"]))).await.unwrap();
    assert!(begin.elapsed() < MAX_TIME);
}

#[tokio::test]
async fn classes_of_characters_are_counted_before_they_are_read() {
    let many = |class: &str, num: usize| regex(&class.repeat(num));
    for spec in [
        many(r"\w", 30_000),
        many(r"\pL", 20_000),
        regex(&format!("(?i){}", r"\PL".repeat(1000))),
        regex(&format!("(?i){}", r"[!-\x{10ffff}]".repeat(1000))),
        lark(&format!("start: /{}/i", "[a-z]".repeat(2000))),
        ConstraintSpec::JsonSchema(format!(r#"{{"type":"string","pattern":"{}"}}"#, r"\u005cw".repeat(4000))),
        ConstraintSpec::JsonSchema(format!(r#"{{"type":"string","pattern":"{}"}}"#, r"\\w".repeat(4000))),
    ] {
        let error = compile(spec).await.err().unwrap();
        assert!(error.to_string().contains("of at most 2000"), "{error}");
    }
    for spec in [many(r"\w", 1000), many("[a-z]", 5000), regex(&format!("(?i){}", "[a-z]".repeat(150)))] {
        compile(spec).await.unwrap();
    }
}

#[tokio::test]
async fn with_every_thread_taken_a_caller_is_told_to_come_again() {
    let limits = ConstraintLimits { max_concurrent_compiles: 0, ..ConstraintLimits::default() };
    let compiler = ConstraintCompiler::new(Arc::new(base()), limits);
    let error = compiler.compile(&tenant(), &Arc::new(ConstraintSpec::JsonObject)).await.err().unwrap();
    let JobFailure::Busy { what, is_share: false } = error.refusal() else { panic!("{error:?}") };
    assert!(what.contains("0 of 0 are taken and you asked for 1"), "{what}");
}

#[tokio::test]
async fn answers_under_way_share_their_memory_and_give_it_back() {
    let limits = ConstraintLimits {
        max_live_bytes: 40 << 20,
        compile_timeout: Duration::from_millis(500),
        ..ConstraintLimits::default()
    };
    let compiler = ConstraintCompiler::new(Arc::new(base()), limits);
    let spec = Arc::new(choice(&["yes", "no"]));
    let mut held = Vec::new();
    let refused = loop {
        match compiler.compile(&tenant(), &spec).await {
            Ok(constraint) => held.push(constraint),
            Err(error) => break error,
        }
    };
    // Of 40 MiB an eighth is for others, and one takes a little more than 4.
    assert_eq!(held.len(), 8);
    assert!(matches!(refused.refusal(), JobFailure::Busy { .. }), "{refused}");
    assert!(refused.to_string().contains("the memory of constraints under way is taken"), "{refused}");
    assert_eq!(compiler.live_bytes(), held.iter().map(|constraint| constraint.max_bytes() as u64).sum::<u64>());
    let newcomer = compiler.compile(&TenantId::from_stored("other"), &spec).await.unwrap();
    drop((held, newcomer));
    assert_eq!(compiler.live_bytes(), 0);
}

#[tokio::test]
async fn an_answer_that_grows_beyond_its_memory_ends_itself() {
    let mut constraint = compile(lark("start: start start | \"a\" |")).await.unwrap();
    let error = loop {
        match constraint.allowed().map(|_| ()).and_then(|()| constraint.accept(A)) {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error.failure(3), JobFailure::ConstraintLimit { .. }), "{error}");
}

#[tokio::test]
async fn a_source_on_which_the_compiler_panics_is_refused_and_not_quoted() {
    static QUOTED: AtomicUsize = AtomicUsize::new(0);
    std::panic::set_hook(Box::new(|panicked| {
        QUOTED.fetch_add(usize::from(panicked.to_string().contains("secret")), Ordering::SeqCst);
    }));
    // The crate cuts what it quotes at a hundred bytes, wherever characters begin.
    let mut refusals = std::collections::BTreeSet::new();
    for at in 0..4 {
        let text = format!("secret{}{}", "a".repeat(at), "é".repeat(90));
        for wrong in [
            json!({"type": [text]}),
            json!({"type": "string", "minLength": {"x": text}}),
            json!({"enum": {"x": text}}),
            json!({"properties": [text]}),
            json!({"allOf": {"x": text}}),
            json!({"pattern": [text]}),
            json!({"items": [text, text]}),
        ] {
            refusals.extend(compile(schema(&wrong)).await.err().map(|error| error.to_string()));
        }
    }
    let _ = std::panic::take_hook();
    assert!(refusals.contains("the grammar compiler fails on it"), "{refusals:?}");
    assert_eq!(QUOTED.load(Ordering::SeqCst), 0);
}
