//! Hooks that do not end.

use std::time::Duration;

use souk_plugins::HookErrorKind;

use crate::guest::{UNCHANGED, prompt, prompt_module, prompt_with};
use crate::harness::{Harness, text, with_processor};

const FOR_EVER: &str = "(loop $again (br $again))";

#[tokio::test]
async fn an_endless_loop_ends_with_its_fuel() {
    let harness = Harness::new();
    let failed = harness.failure(&prompt(&format!("{FOR_EVER} unreachable"))).await;
    assert_eq!(failed.kind, HookErrorKind::OutOfFuel);
    assert_eq!(failed.measured.fuel, harness.settings.limits.max_fuel);
}

#[tokio::test]
async fn what_fuel_does_not_count_ends_with_processor_time() {
    let harness = Harness::with(with_processor(Duration::from_millis(20)));
    let failed = harness.failure(&prompt(&format!("{FOR_EVER} unreachable"))).await;
    assert_eq!(failed.kind, HookErrorKind::TimedOut);
    assert!(failed.measured.processor >= Duration::from_millis(20), "{:?}", failed.measured);
}

#[tokio::test]
async fn an_endless_loop_as_it_starts_ends_as_well() {
    let harness = Harness::new();
    let start = format!("(func $start {FOR_EVER}) (start $start)");
    assert_eq!(harness.failure_kind(&prompt_with("", &start, UNCHANGED)).await, HookErrorKind::OutOfFuel);
}

#[tokio::test]
async fn an_endless_loop_where_the_request_is_taken_ends_as_well() {
    let harness = Harness::new();
    let module = prompt_module("", "", UNCHANGED);
    let endless = module.replace("(local.get $at))\n", &format!("{FOR_EVER} (local.get $at))\n"));
    assert_ne!(module, endless);
    let component = crate::guest::component("prompt", &endless);
    assert_eq!(harness.failure_kind(&component).await, HookErrorKind::OutOfFuel);
}

#[tokio::test]
async fn filling_memory_again_and_again_costs_fuel_by_the_byte() {
    let harness = Harness::new();
    let fill = "(memory.fill (i32.const 0) (i32.const 0) (i32.const 131072))";
    let component = prompt(&format!("(loop $again {fill} (br $again)) unreachable"));
    assert_eq!(harness.failure_kind(&component).await, HookErrorKind::OutOfFuel);
}

#[tokio::test]
async fn deep_recursion_ends_at_the_stack() {
    let harness = Harness::new();
    let deep = "(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))";
    let component = prompt_with("", deep, "(call $deep (i32.const 0))");
    assert_eq!(harness.failure_kind(&component).await, HookErrorKind::StackOverflow);
}

/// With one thread, each call must get its turns while others never end.
#[tokio::test]
async fn calls_take_turns_with_those_that_do_not_end() {
    let mut settings = with_processor(Duration::from_secs(10));
    settings.threads = 1;
    let harness = Harness::with(settings);
    let endless = harness.hook(&prompt(&format!("{FOR_EVER} unreachable"))).await;
    let short = harness.hook(&prompt(UNCHANGED)).await;
    let context = harness.context();
    let others = async {
        let calls = std::array::from_fn::<_, 3, _>(|_| endless.prompt(&context, text("x")));
        let [first, second, third] = calls;
        tokio::join!(first, second, third)
    };
    let mine = async {
        for _ in 0..20 {
            short.prompt(&context, text("x")).await.unwrap();
        }
    };
    tokio::select! {
        biased;
        () = mine => {}
        _ = others => panic!("those that do not end came first"),
    }
}

/// Whoever drops a call ends it: with one thread and one place, the next call comes at once.
#[tokio::test]
async fn a_call_ends_with_its_caller() {
    let mut settings = with_processor(Duration::from_secs(60));
    (settings.threads, settings.max_running, settings.max_running_per_tenant) = (1, 1, 1);
    settings.ceiling.processor = Duration::from_secs(60);
    settings.max_wait = Duration::from_secs(30);
    let harness = Harness::with(settings);
    let endless = harness.hook(&prompt(&format!("{FOR_EVER} unreachable"))).await;
    let short = harness.hook(&prompt(UNCHANGED)).await;
    let context = harness.context();
    let call = endless.prompt(&context, text("x"));
    assert!(tokio::time::timeout(Duration::from_millis(50), call).await.is_err());
    short.prompt(&context, text("x")).await.unwrap();
}

#[tokio::test]
async fn a_tenant_beyond_its_share_is_told_so_and_others_are_let_in() {
    let mut settings = with_processor(Duration::from_secs(60));
    (settings.threads, settings.max_running, settings.max_running_per_tenant) = (1, 4, 2);
    settings.max_wait = Duration::from_millis(20);
    let harness = Harness::with(settings);
    let endless = harness.hook(&prompt(&format!("{FOR_EVER} unreachable"))).await;
    let short = harness.hook(&prompt(UNCHANGED)).await;
    let (context, mut another) = (harness.context(), harness.context());
    another.tenant = souk_protocol::TenantId::from_stored("another");
    let check = async {
        // Both of the others have begun: a call of theirs is refused, one of somebody else is not.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let refused = short.prompt(&context, text("x")).await.unwrap_err();
        assert_eq!((refused.kind, refused.kind.is_of_host()), (HookErrorKind::ShareTaken, true));
        short.prompt(&another, text("x")).await.unwrap();
    };
    tokio::select! {
        () = check => {}
        _ = async { tokio::join!(endless.prompt(&context, text("x")), endless.prompt(&context, text("x"))) } => {
            panic!("those that do not end came first");
        }
    }
}

/// What was said of one tenant binds that tenant alone, below what all tenants are bound by.
#[tokio::test]
async fn one_that_may_run_less_at_once_than_others_waits_for_itself() {
    let mut settings = with_processor(Duration::from_secs(60));
    (settings.threads, settings.max_running, settings.max_running_per_tenant) = (1, 4, 3);
    settings.max_wait = Duration::from_millis(20);
    let harness = Harness::with(settings);
    let endless = harness.hook(&prompt(&format!("{FOR_EVER} unreachable"))).await;
    let short = harness.hook(&prompt(UNCHANGED)).await;
    let (mut context, mut another) = (harness.context(), harness.context());
    context.limits.max_running = 1;
    another.tenant = souk_protocol::TenantId::from_stored("another");
    let check = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let refused = short.prompt(&context, text("x")).await.unwrap_err();
        assert_eq!(refused.kind, HookErrorKind::ShareTaken);
        short.prompt(&another, text("x")).await.unwrap();
    };
    tokio::select! {
        () = check => {}
        _ = endless.prompt(&context, text("x")) => panic!("the one that does not end came first"),
    }
}
