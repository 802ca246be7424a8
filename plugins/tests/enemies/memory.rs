//! Hooks that want all there is.

use std::sync::Arc;

use souk_plugins::intake::IntakeError;
use souk_plugins::words::PromptOutcome;
use souk_plugins::{HookErrorKind, LoadError};

use crate::guest::{UNCHANGED, answered, component, prompt, prompt_module, prompt_with};
use crate::harness::{Harness, text};

/// Grows a page at a time for as long as it gets one.
const GROW: &str =
    "(block $full (loop $again (br_if $full (i32.eq (i32.const -1) (memory.grow (i32.const 1)))) (br $again)))";

#[tokio::test]
async fn memory_ends_at_its_bound_and_the_hook_may_go_on() {
    let harness = Harness::new();
    let (outcome, measured) = harness.prompt(&prompt(&format!("{GROW} {UNCHANGED}"))).await.unwrap();
    assert_eq!(outcome, PromptOutcome::Unchanged);
    assert_eq!(measured.peak_memory_bytes, harness.settings.limits.memory_bytes as u64);
}

#[tokio::test]
async fn what_cannot_go_on_without_memory_says_so() {
    let harness = Harness::new();
    let failed = harness.failure(&prompt(&format!("{GROW} unreachable"))).await;
    assert_eq!(failed.kind, HookErrorKind::OutOfMemory);
}

#[tokio::test]
async fn a_tenant_with_less_memory_has_less() {
    let harness = Harness::new();
    let hook = harness.hook(&prompt(&format!("{GROW} {UNCHANGED}"))).await;
    let mut context = harness.context();
    context.limits.memory_bytes = 1 << 20;
    let (_, measured) = hook.prompt(&context, text("x")).await.unwrap();
    assert_eq!(measured.peak_memory_bytes, 1 << 20);
    // It begins with two pages.
    context.limits.memory_bytes = 1 << 16;
    let failed = hook.prompt(&context, text("x")).await.unwrap_err();
    assert_eq!(failed.kind, HookErrorKind::OutOfMemory);
}

#[tokio::test]
async fn a_memory_that_begins_too_large_is_not_taken() {
    let harness = Harness::new();
    let module = prompt_module("", "", UNCHANGED).replace("(export \"memory\") 2)", "(export \"memory\") 20000)");
    let bomb = component("prompt", &module);
    let (given, limit) = (20_000 << 16, harness.settings.limits.memory_bytes as u64);
    let what = "bytes of memory to begin with:";
    assert_eq!(harness.check(&bomb), Err(IntakeError::TooMuch { what, given, limit }));
    // And where it was: it does not start.
    match harness.load(&bomb).await {
        Err(LoadError::Artifact(_) | LoadError::DoesNotFit(_)) => {}
        Ok(hook) => {
            let failed = hook.prompt(&harness.context(), text("x")).await.unwrap_err();
            assert_eq!(failed.kind, HookErrorKind::OutOfMemory);
        }
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_table_ends_at_its_bound() {
    let harness = Harness::new();
    let grow = "(block $full (loop $again
        (br_if $full (i32.eq (i32.const -1) (table.grow $t (ref.null func) (i32.const 1000)))) (br $again)))";
    // As many as it got.
    let count = answered("(i32.const 0)", "(i32.div_u (table.size $t) (i32.const 1000))");
    let component = prompt_with("", "(table $t 1 funcref)", &format!("{grow} {count}"));
    let (outcome, _) = harness.prompt(&component).await.unwrap();
    let PromptOutcome::Answered(text) = outcome else { panic!("{outcome:?}") };
    assert_eq!(text.len(), harness.settings.limits.max_table_elements / 1000);
}

/// The first call leaves a mark everywhere; whoever comes after looks for it, in the same memory of the pool as like as not.
#[tokio::test]
async fn no_call_sees_what_another_left_in_memory() {
    let harness = Harness::new();
    let poison = "(memory.fill (i32.const 4096) (i32.const 0x5a) (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4096)))";
    let poison = harness.hook(&prompt(&format!("{GROW} {poison} {UNCHANGED}"))).await;
    // How many bytes between the hook's own and the end of what it has are not zero: none, as the length of an answer.
    let look = format!(
        "{GROW} (local.set $n (i32.const 8388608))
        (block $seen (loop $again
            (br_if $seen (i64.ne (i64.const 0) (i64.load (local.get $n))))
            (local.set $n (i32.add (local.get $n) (i32.const 8)))
            (br_if $again (i32.lt_u (local.get $n) (i32.mul (memory.size) (i32.const 65536)))))
            {UNCHANGED} return)
        {}",
        answered("(local.get $n)", "(i32.const 8)")
    );
    let look = harness.hook(&prompt(&look)).await;
    let context = harness.context();
    for _ in 0..20 {
        poison.prompt(&context, text("a secret")).await.unwrap();
        let (outcome, _) = look.prompt(&context, text("x")).await.unwrap();
        assert_eq!(outcome, PromptOutcome::Unchanged);
    }
}

/// Globals are an instance's own as well.
#[tokio::test]
async fn no_call_sees_what_another_left_in_a_global() {
    let harness = Harness::new();
    let count = format!(
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1))) {}",
        answered("(i32.const 0)", "(global.get $calls)")
    );
    let hook = harness.hook(&prompt_with("", "(global $calls (mut i32) (i32.const 0))", &count)).await;
    for _ in 0..3 {
        let (outcome, _) = hook.prompt(&harness.context(), text("x")).await.unwrap();
        assert_eq!(outcome, PromptOutcome::Answered("\0".to_owned()));
    }
}

/// Half of the calls grow to all they may have, and half fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_calls_leave_memory_flat() {
    let harness = Harness::new();
    let fine = harness.hook(&prompt(UNCHANGED)).await;
    let failing = harness.hook(&prompt("unreachable")).await;
    let growing = harness.hook(&prompt(&format!("{GROW} {UNCHANGED}"))).await;
    let context = Arc::new(harness.context());
    let round = async |num_calls: usize| {
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..num_calls {
            let hook = Arc::clone([&fine, &failing, &fine, &failing, &growing][number % 5]);
            let context = Arc::clone(&context);
            calls.spawn(async move { hook.prompt(&context, text("hello")).await.is_ok() });
            if calls.len() == 32 {
                calls.join_next().await;
            }
        }
        calls.join_all().await;
    };
    round(2_000).await;
    let before = resident_bytes();
    round(10_000).await;
    let after = resident_bytes();
    assert!(after <= before + (16 << 20), "{before} bytes before, {after} after");
}

/// What the process has in memory.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
