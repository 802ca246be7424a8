//! Hooks that call the host: too often, with too much, or to learn what they should not.

use std::sync::Arc;
use std::time::Duration;

use souk_plugins::HookErrorKind;
use souk_plugins::words::{Level, PromptOutcome};

use crate::guest::{UNCHANGED, answered, prompt_with};
use crate::harness::{Harness, text};

const LOG: &str = r#"(import "souk:hooks/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#;
const CLOCK: &str = r#"(import "souk:hooks/clock@0.1.0" "now" (func $now (result i64)))"#;
const RANDOM: &str = r#"(import "souk:hooks/random@0.1.0" "bytes" (func $random (param i32 i32)))"#;
const COUNT: &str = r#"(import "souk:hooks/tokenize@0.1.0" "count" (func $count (param i32 i32) (result i32)))"#;
const VARIABLE: &str = r#"(import "souk:hooks/variables@0.1.0" "get" (func $variable (param i32 i32 i32)))"#;
const CONFIG: &str = r#"(import "souk:hooks/config@0.1.0" "get" (func $config (param i32)))"#;

/// Does something so many times.
fn times(count: u32, what: &str) -> String {
    format!(
        "(local.set $n (i32.const {count}))
         (loop $again {what} (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br_if $again (local.get $n)))"
    )
}

#[tokio::test]
async fn lines_are_kept_up_to_their_bounds_and_the_rest_is_counted() {
    let harness = Harness::new();
    let write = |count, length: u32| {
        let line = format!("(call $log (i32.const 2) (i32.const 4096) (i32.const {length}))");
        prompt_with(
            LOG,
            r#"(data (i32.const 4096) "a line of a hook")"#,
            &format!("{} {UNCHANGED}", times(count, &line)),
        )
    };
    let limits = harness.settings.limits;
    let (_, measured) = harness.prompt(&write(1000, 6)).await.unwrap();
    assert_eq!((measured.lines.len(), measured.num_dropped_lines), (limits.max_log_lines, 1000 - 64));
    assert!(measured.lines.iter().all(|line| line.message == "a line" && line.level == Level::Warn));
    assert_eq!(measured.num_host_calls, 1000);
    // Of long lines fewer.
    let (_, measured) = harness.prompt(&write(20, 1000)).await.unwrap();
    assert_eq!((measured.lines.len(), measured.num_dropped_lines), (limits.max_log_bytes / 1000, 4));
}

#[tokio::test]
async fn in_another_tenants_call_no_line_is_kept() {
    let harness = Harness::new();
    let line = "(call $log (i32.const 3) (i32.const 4096) (i32.const 6))";
    let hook = harness.hook(&prompt_with(LOG, "", &format!("{line} {UNCHANGED}"))).await;
    let mut context = harness.context();
    context.may_log = false;
    let (_, measured) = hook.prompt(&context, text("x")).await.unwrap();
    assert_eq!((measured.lines, measured.num_dropped_lines), (Vec::new(), 1));
}

#[tokio::test]
async fn what_a_hook_wrote_before_it_failed_is_there() {
    let harness = Harness::new();
    let line = "(call $log (i32.const 3) (i32.const 4096) (i32.const 8))";
    let panics = prompt_with(LOG, r#"(data (i32.const 4096) "panicked")"#, &format!("{line} unreachable"));
    let failed = harness.failure(&panics).await;
    assert_eq!((failed.kind, failed.measured.lines[0].message.as_str()), (HookErrorKind::Trap, "panicked"));
}

#[tokio::test]
async fn millions_of_host_calls_end_at_their_number() {
    let harness = Harness::new();
    let component = prompt_with(CLOCK, "", &format!("{} {UNCHANGED}", times(5_000_000, "(drop (call $now))")));
    let failed = harness.failure(&component).await;
    assert_eq!(failed.kind, HookErrorKind::TooManyHostCalls);
    assert_eq!(failed.measured.num_host_calls, harness.settings.limits.max_host_calls + 1);
}

#[tokio::test]
async fn host_calls_with_bombs_end_at_their_bytes() {
    let harness = Harness::new();
    let grow = "(drop (memory.grow (i32.const 480)))";
    // One of 24 MB, which is not even copied.
    let bomb = "(call $log (i32.const 0) (i32.const 0) (i32.const 25165824))";
    let kind = harness.failure_kind(&prompt_with(LOG, "", &format!("{grow} {bomb} {UNCHANGED}"))).await;
    assert_eq!(kind, HookErrorKind::OutputTooLarge);
    // Many of 1 MB.
    let bombs = times(100, "(call $log (i32.const 0) (i32.const 2097152) (i32.const 1048576))");
    let failed = harness.failure(&prompt_with(LOG, "", &format!("{grow} {bombs} {UNCHANGED}"))).await;
    assert_eq!((failed.kind, failed.measured.num_host_calls), (HookErrorKind::TooManyHostCalls, 5));
    // And texts whose tokens are counted, which takes longest.
    let count = times(100, "(drop (call $count (i32.const 2097152) (i32.const 262144)))");
    let failed = harness.failure(&prompt_with(COUNT, "", &format!("{grow} {count} {UNCHANGED}"))).await;
    assert_eq!((failed.kind, failed.measured.num_host_calls), (HookErrorKind::TooManyHostCalls, 5));
}

#[tokio::test]
async fn a_text_for_the_host_that_is_none_ends_the_call() {
    let harness = Harness::new();
    let bad = "(i32.store8 (i32.const 4096) (i32.const 0xff)) (call $log (i32.const 0) (i32.const 4096) (i32.const 1))";
    let kind = harness.failure_kind(&prompt_with(LOG, "", &format!("{bad} {UNCHANGED}"))).await;
    assert_eq!(kind, HookErrorKind::Invalid);
    let level = "(call $log (i32.const 99) (i32.const 4096) (i32.const 1))";
    assert_eq!(
        harness.failure_kind(&prompt_with(LOG, "", &format!("{level} {UNCHANGED}"))).await,
        HookErrorKind::Invalid
    );
    let outside = "(call $log (i32.const 0) (i32.const -8) (i32.const 4))";
    assert_eq!(
        harness.failure_kind(&prompt_with(LOG, "", &format!("{outside} {UNCHANGED}"))).await,
        HookErrorKind::Invalid
    );
}

/// A loop of a few milliseconds between two looks at the clock: it stands.
#[tokio::test]
async fn the_clock_says_nothing_of_time_that_passes() {
    let harness = Harness::new();
    let wait = times(3_000_000, "");
    let ticks = format!(
        "(i64.store (i32.const 4096) (call $now)) {wait} (i64.store (i32.const 4104) (call $now)) {}",
        answered("(i32.const 4096)", "(i32.const 16)")
    );
    let hook = harness.hook(&prompt_with(CLOCK, "", &ticks)).await;
    let mut context = harness.context();
    // Each byte of it is a character.
    context.clock_s = 0x0102_0304;
    let (outcome, measured) = hook.prompt(&context, text("x")).await.unwrap();
    assert!(measured.processor > Duration::from_micros(100), "{measured:?}");
    let eight = "\u{4}\u{3}\u{2}\u{1}\0\0\0\0";
    assert_eq!(outcome, PromptOutcome::Answered(eight.repeat(2)));
}

#[tokio::test]
async fn randomness_is_of_the_request_and_has_its_bound() {
    let harness = Harness::new();
    // The bits that make a byte no character are taken away.
    let draw = |length: u32| {
        let clean = times(64, "(i32.store8 (i32.add (i32.load (i32.const 2048)) (i32.sub (local.get $n) (i32.const 1)))
            (i32.and (i32.const 127) (i32.load8_u (i32.add (i32.load (i32.const 2048)) (i32.sub (local.get $n) (i32.const 1))))))");
        let answer = answered("(i32.load (i32.const 2048))", "(i32.const 64)");
        prompt_with(RANDOM, "", &format!("(call $random (i32.const {length}) (i32.const 2048)) {clean} {answer}"))
    };
    let hook = harness.hook(&draw(4096)).await;
    let mut context = harness.context();
    let (first, _) = hook.prompt(&context, text("x")).await.unwrap();
    assert_eq!(first, hook.prompt(&context, text("another")).await.unwrap().0);
    context.seed += 1;
    assert_ne!(first, hook.prompt(&context, text("x")).await.unwrap().0);
    assert_eq!(harness.failure_kind(&draw(4097)).await, HookErrorKind::Invalid);
}

#[tokio::test]
async fn configuration_and_variables_are_those_of_the_call() {
    let harness = Harness::new();
    let tell = "(call $variable (i32.const 4096) (i32.const 4) (i32.const 2048))";
    let answer = answered("(i32.load (i32.const 2052))", "(i32.load (i32.const 2056))");
    let hook =
        harness.hook(&prompt_with(VARIABLE, r#"(data (i32.const 4096) "name")"#, &format!("{tell} {answer}"))).await;
    let mut context = harness.context();
    let (outcome, _) = hook.prompt(&context, text("x")).await.unwrap();
    assert_eq!(outcome, PromptOutcome::Answered(String::new()));
    context.variables = Arc::new([("name".to_owned(), "Souk".to_owned())].into());
    let (outcome, _) = hook.prompt(&context, text("x")).await.unwrap();
    assert_eq!(outcome, PromptOutcome::Answered("Souk".to_owned()));

    let tell = "(call $config (i32.const 2048))";
    let answer = answered("(i32.load (i32.const 2048))", "(i32.load (i32.const 2052))");
    let hook = harness.hook(&prompt_with(CONFIG, "", &format!("{tell} {answer}"))).await;
    context.config = Arc::from(r#"{"tone":"kind"}"#);
    let (outcome, _) = hook.prompt(&context, text("x")).await.unwrap();
    assert_eq!(outcome, PromptOutcome::Answered(r#"{"tone":"kind"}"#.to_owned()));
}
