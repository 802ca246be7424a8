//! Sources made to explode: each works or is refused, in bounded time and memory, and nothing panics.

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
                assert!(!matches!(error, ConstraintError::Internal(_) | ConstraintError::Busy), "{name}: {error:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_source_beyond_the_limit_is_not_even_read() {
    let error = compile(regex(&"a".repeat((64 << 10) + 1))).await.err();
    assert_eq!(error, Some(ConstraintError::TooLong { limit: 65_536, given: 65_537 }));
}

#[tokio::test]
async fn what_compiles_for_too_long_is_refused_at_the_limit_and_its_thread_is_free_soon() {
    let limits = ConstraintLimits {
        compile_timeout: Duration::from_millis(100),
        max_concurrent_compiles: 1,
        ..ConstraintLimits::default()
    };
    let compiler = ConstraintCompiler::new(Arc::new(base()), limits);
    // The vocabulary is prepared first, which is not on the clock.
    compiler.compile(&Arc::new(choice(&["warm"]))).await.unwrap();
    // Every letter of every script in both cases, over and over: reading it takes about a second.
    let slow = Arc::new(regex(&format!("(?i){}", r"\p{L}".repeat(9000))));
    let begin = Instant::now();
    let error = compiler.compile(&slow).await.err();
    assert_eq!(error, Some(ConstraintError::TooSlow { limit: limits.compile_timeout }));
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    // The refusal is remembered while its thread works.
    assert_eq!(compiler.compile(&slow).await.err(), error);
    let next = Arc::new(choice(&["yes", "no"]));
    while let Err(error) = compiler.compile(&next).await {
        assert_eq!(error, ConstraintError::Busy);
        assert!(begin.elapsed() < MAX_TIME, "{:?}", begin.elapsed());
    }
}

#[tokio::test]
async fn with_every_thread_taken_a_compile_is_put_off() {
    let limits = ConstraintLimits {
        compile_timeout: Duration::from_millis(100),
        max_concurrent_compiles: 0,
        ..ConstraintLimits::default()
    };
    let compiler = ConstraintCompiler::new(Arc::new(base()), limits);
    let error = compiler.compile(&Arc::new(ConstraintSpec::JsonObject)).await.err().unwrap();
    assert_eq!((&error, error.refusal()), (&ConstraintError::Busy, None));
}
