//! Hooks that give back what they must not.

use souk_plugins::words::PromptOutcome;
use souk_plugins::{HookErrorKind, HookSettings, Host};
use souk_testkit::fuzz;

use crate::guest::{UNCHANGED, answered, prompt, prompt_with};
use crate::harness::{Harness, text};

const GROW: &str = "(drop (memory.grow (i32.const 400)))";

#[tokio::test]
async fn a_huge_output_is_not_taken_over() {
    let harness = Harness::new();
    let limit = harness.settings.limits.max_output_bytes;
    let huge = |length: usize| {
        prompt(&format!("{GROW} {}", answered("(i32.const 1048576)", &format!("(i32.const {length})"))))
    };
    let (outcome, _) = harness.prompt(&huge(limit)).await.unwrap();
    assert_eq!(outcome.size_bytes(), limit);
    assert_eq!(harness.failure_kind(&huge(limit + 1)).await, HookErrorKind::OutputTooLarge);
    // So much that not even the copy is made.
    assert_eq!(harness.failure_kind(&huge(23 << 20)).await, HookErrorKind::OutputTooLarge);
}

/// A conversation of so many messages without a word in it: a list of a million places costs nothing to write.
#[tokio::test]
async fn a_huge_list_of_nothing_is_not_taken_over() {
    let harness = Harness::new();
    let list = "(i32.store8 (i32.const 1024) (i32.const 1))
        (i32.store8 (i32.const 1032) (i32.const 0))
        (i32.store (i32.const 1036) (i32.const 65536))
        (i32.store (i32.const 1040) (i32.const 300000))
        (i32.const 1024)";
    let component = prompt(&format!("{GROW} {list}"));
    assert_eq!(harness.failure_kind(&component).await, HookErrorKind::OutputTooLarge);
}

#[tokio::test]
async fn what_is_no_text_is_not_taken() {
    let harness = Harness::new();
    let bad =
        format!("(i32.store8 (i32.const 2048) (i32.const 0xff)) {}", answered("(i32.const 2048)", "(i32.const 1)"));
    assert_eq!(harness.failure_kind(&prompt(&bad)).await, HookErrorKind::Invalid);
    // Nor one that begins where there is no memory.
    let outside = answered("(i32.const -16)", "(i32.const 8)");
    assert_eq!(harness.failure_kind(&prompt(&outside)).await, HookErrorKind::Invalid);
}

#[tokio::test]
async fn an_outcome_that_there_is_not_is_not_taken() {
    let harness = Harness::new();
    let bad = "(i32.store8 (i32.const 1024) (i32.const 9)) (i32.const 1024)";
    assert_eq!(harness.failure_kind(&prompt(bad)).await, HookErrorKind::Invalid);
    assert_eq!(harness.failure_kind(&prompt("(i32.const -4)")).await, HookErrorKind::Invalid);
    assert_eq!(harness.failure_kind(&prompt("(i32.const 1025)")).await, HookErrorKind::Invalid);
}

/// A refusal is of the caller's part: a hook cannot say that the server failed, or that all is well.
#[tokio::test]
async fn a_refusal_has_a_status_of_refusals() {
    let harness = Harness::new();
    let refused = |status: u16, length: u32| {
        prompt(&format!(
            "(i32.store8 (i32.const 1024) (i32.const 3)) (i32.store16 (i32.const 1032) (i32.const {status}))
             (i32.store (i32.const 1036) (i32.const 4096)) (i32.store (i32.const 1040) (i32.const {length})) (i32.const 1024)"
        ))
    };
    let (outcome, _) = harness.prompt(&refused(451, 3)).await.unwrap();
    assert!(matches!(outcome, PromptOutcome::Refused(refusal) if refusal.status == 451 && refusal.message == "\0\0\0"));
    for status in [0, 200, 302, 399, 500, 503, 65535] {
        assert_eq!(harness.failure_kind(&refused(status, 3)).await, HookErrorKind::Invalid, "{status}");
    }
    assert_eq!(harness.failure_kind(&refused(400, 5000)).await, HookErrorKind::Invalid);
}

#[tokio::test]
async fn a_carry_has_its_bound() {
    let harness = Harness::new();
    let carry = |length: u32| {
        // `rewritten` with an empty text, no adapter and no tools; the carry is what comes last.
        prompt_with(
            "",
            "",
            &format!(
                "(i32.store8 (i32.const 1024) (i32.const 1)) (i32.store8 (i32.const 1032) (i32.const 1))
                 (i32.store (i32.const {CARRY_AT}) (i32.const 4096)) (i32.store (i32.const {}) (i32.const {length}))
                 (i32.const 1024)",
                CARRY_AT + 4
            ),
        )
    };
    let (outcome, _) = harness.prompt(&carry(64 << 10)).await.unwrap();
    assert!(matches!(outcome, PromptOutcome::Rewritten(rewritten) if rewritten.carry.len() == 64 << 10));
    assert_eq!(harness.failure_kind(&carry((64 << 10) + 1)).await, HookErrorKind::OutputTooLarge);
}

/// Where the canonical form has the carry of an outcome at 1024: behind the request, which has 160 bytes.
const CARRY_AT: u32 = 1032 + 160;

#[tokio::test]
async fn a_trap_says_where_to_the_owner_alone() {
    let harness = Harness::new();
    let hook = harness
        .hook(&prompt_with("", "(func $a_name_of_the_hook unreachable)", "(call $a_name_of_the_hook) unreachable"))
        .await;
    let mut context = harness.context();
    let own = hook.prompt(&context, text("x")).await.unwrap_err();
    assert_eq!((own.kind, own.to_string().as_str()), (HookErrorKind::Trap, "it stopped with a trap"));
    assert!(own.detail.as_ref().unwrap().contains("a_name_of_the_hook"), "{own:?}");
    context.may_log = false;
    let others = hook.prompt(&context, text("x")).await.unwrap_err();
    assert_eq!((others.kind, others.detail.as_ref()), (HookErrorKind::Trap, None));
}

#[tokio::test]
async fn a_trap_as_it_starts_is_a_failed_call() {
    let harness = Harness::new();
    let component = prompt_with("", "(func $start unreachable) (start $start)", UNCHANGED);
    assert_eq!(harness.failure_kind(&component).await, HookErrorKind::Trap);
    let divides = prompt("(i32.div_u (i32.const 1) (i32.sub (local.get $n) (local.get $n)))");
    assert_eq!(harness.failure_kind(&divides).await, HookErrorKind::Trap);
}

#[tokio::test]
async fn more_than_it_may_be_given_is_not_given() {
    let harness = Harness::new();
    let hook = harness.hook(&prompt(UNCHANGED)).await;
    let limit = harness.settings.limits.max_input_bytes;
    hook.prompt(&harness.context(), text(&"x".repeat(limit))).await.unwrap();
    let failed = hook.prompt(&harness.context(), text(&"x".repeat(limit + 1))).await.unwrap_err();
    assert_eq!((failed.kind, failed.measured.fuel), (HookErrorKind::InputTooLarge, 0));
}

/// A `realloc` that says yes to everything and gives what is not there.
#[tokio::test]
async fn a_place_for_the_request_that_is_not_there_is_not_written_to() {
    let harness = Harness::new();
    let module = crate::guest::prompt_module("", "", UNCHANGED);
    for place in ["(i32.const -16)", "(i32.const 3)", "(i32.mul (memory.size) (i32.const 65536))"] {
        let lies = module.replace("(local.get $at))\n", &format!("{place})\n"));
        assert_ne!(lies, module);
        let component = crate::guest::component("prompt", &lies);
        let kind = harness.failure_kind(&component).await;
        assert_eq!(kind, HookErrorKind::Invalid, "{place}");
    }
}

#[tokio::test]
async fn a_hook_is_asked_only_for_what_it_does() {
    let harness = Harness::new();
    let hook = harness.hook(&prompt(UNCHANGED)).await;
    let answer = serde_json::from_value(serde_json::json!({"text": "hello"})).unwrap();
    let failed = hook.answer(&harness.context(), answer).await.unwrap_err();
    assert_eq!(failed.kind, HookErrorKind::NotExported);
    let (description, _) = hook.describe(&harness.context()).await.unwrap();
    assert_eq!(description, None);
}

/// Without the address space of a pool hooks run as well.
#[tokio::test]
async fn hooks_do_the_same_without_a_pool() {
    let settings = HookSettings { max_streams: 1 << 16, ..HookSettings::default() };
    let mut wide = settings.clone();
    wide.ceiling.memory_bytes = 2 << 30;
    assert!(Host::start(&wide, Harness::new().key).is_ok());
    let harness = Harness::with(wide);
    assert_eq!(harness.prompt(&prompt(UNCHANGED)).await.unwrap().0, PromptOutcome::Unchanged);
}

/// Where the host puts something into its memory, a hook cannot call the host, and so nothing can be called that is under way.
#[tokio::test]
async fn a_hook_cannot_call_the_host_out_of_its_allocator() {
    let harness = Harness::new();
    let log = r#"(import "souk:hooks/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#;
    let module = crate::guest::prompt_module(log, "", UNCHANGED);
    let call = "(call $log (i32.const 0) (i32.const 0) (i32.const 0))";
    let calls = module.replace("(local.get $at))\n", &format!("{call} (local.get $at))\n"));
    assert_ne!(calls, module);
    let failed = harness.failure(&crate::guest::component("prompt", &calls)).await;
    assert_eq!((failed.kind, failed.measured.num_host_calls), (HookErrorKind::Trap, 0));
}

/// Gives back what the low halves of the bytes of the request's text say, as if it were an outcome.
const SAYS: &str = "(local.set $n (i32.const 0))
    (block $end (loop $again
        (br_if $end (i32.ge_u (i32.shl (local.get $n) (i32.const 1)) (i32.load offset=8 (local.get $request))))
        (i32.store8 (i32.add (i32.const 1024) (local.get $n)) (i32.or
            (i32.shl (i32.load8_u (i32.add (i32.load offset=4 (local.get $request)) (i32.shl (local.get $n) (i32.const 1)))) (i32.const 4))
            (i32.and (i32.const 15) (i32.load8_u offset=1
                (i32.add (i32.load offset=4 (local.get $request)) (i32.shl (local.get $n) (i32.const 1)))))))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br $again)))
    (i32.const 1024)";

#[test]
fn any_bytes_of_an_outcome_are_taken_or_told_why() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let harness = Harness::new();
    let hook = runtime.block_on(harness.hook(&prompt(SAYS)));
    let context = harness.context();
    fuzz("hook_outcome", |bytes| {
        let said = bytes
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .map(|half| char::from(0x40 | half))
            .collect::<String>();
        match runtime.block_on(hook.prompt(&context, text(&said))) {
            Ok((PromptOutcome::Rewritten(rewritten), _)) => format!("rewritten {rewritten:?}"),
            Ok((outcome, _)) => format!("{outcome:?}"),
            Err(error) => {
                format!("{} {:?}", error.code(), error.detail.as_deref().and_then(|detail| detail.lines().last()))
            }
        }
    });
}
