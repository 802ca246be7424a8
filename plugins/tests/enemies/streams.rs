//! Hooks that see an answer piece by piece.

use souk_plugins::words::{Ending, FinishReason, Opening, Step, Usage};
use souk_plugins::{HookErrorKind, HookSettings};

use crate::guest::{SEND, SEND_NOTHING, stream};
use crate::harness::{Harness, piece, with_processor};

const ENDING: Ending =
    Ending { finish_reason: FinishReason::Stop, usage: Usage { prompt_tokens: 1, completion_tokens: 2 } };

/// Sends the text until so many pieces were pushed, then does something else.
fn until(count: u32, then: &str) -> Vec<u8> {
    stream(
        "",
        &format!("(if (result i32) (i32.lt_u (global.get $pushed) (i32.const {count})) (then {SEND}) (else {then}))"),
    )
}

#[tokio::test]
async fn a_stream_goes_through_one_instance() {
    let harness = Harness::new();
    // From the third piece on it ends the answer with what it got.
    let end = SEND.replacen("(i32.const 0)", "(i32.const 1)", 1);
    let hook = harness.hook(&until(3, &end)).await;
    let (mut stream, opened) = hook.open_stream(&harness.context(), Opening::default()).await.unwrap();
    assert!(opened.fuel > 0 && opened.peak_memory_bytes > 0);
    for text in ["one", "two"] {
        assert_eq!(stream.push(piece(text)).await.unwrap().0, Step::Send(text.to_owned()));
    }
    assert_eq!(stream.push(piece("three")).await.unwrap().0, Step::End("three".to_owned()));
    assert!(stream.has_ended());
    assert_eq!(stream.push(piece("four")).await.unwrap_err().kind, HookErrorKind::Ended);

    let (mut stream, _) = hook.open_stream(&harness.context(), Opening::default()).await.unwrap();
    assert_eq!(stream.push(piece("one")).await.unwrap().0, Step::Send("one".to_owned()));
    assert_eq!(stream.finish(ENDING).await.unwrap().0, Step::Send(String::new()));
    assert_eq!(stream.finish(ENDING).await.unwrap_err().kind, HookErrorKind::Ended);
}

#[tokio::test]
async fn a_trap_in_the_middle_ends_the_stream() {
    let harness = Harness::new();
    let hook = harness.hook(&until(2, "unreachable")).await;
    let (mut stream, _) = hook.open_stream(&harness.context(), Opening::default()).await.unwrap();
    stream.push(piece("one")).await.unwrap();
    assert_eq!(stream.push(piece("two")).await.unwrap_err().kind, HookErrorKind::Trap);
    assert_eq!(stream.push(piece("three")).await.unwrap_err().kind, HookErrorKind::Ended);
}

#[tokio::test]
async fn a_refusal_in_the_middle_is_one_and_has_a_status_of_refusals() {
    let harness = Harness::new();
    for (status, is_allowed) in [(422, true), (500, false)] {
        let refuse = format!(
            "(i32.store8 (i32.const 1024) (i32.const 2)) (i32.store16 (i32.const 1028) (i32.const {status}))
             (i32.store (i32.const 1032) (i32.const 0)) (i32.store (i32.const 1036) (i32.const 0)) (i32.const 1024)"
        );
        let hook = harness.hook(&until(1, &refuse)).await;
        let (mut stream, _) = hook.open_stream(&harness.context(), Opening::default()).await.unwrap();
        match stream.push(piece("one")).await {
            Ok((Step::Refuse(refusal), _)) => assert!(is_allowed && refusal.status == 422),
            Err(error) => assert!(!is_allowed && error.kind == HookErrorKind::Invalid),
            other => panic!("{other:?}"),
        }
        assert!(stream.has_ended());
    }
}

/// Each piece is within its bound, and all together are not within theirs.
#[tokio::test]
async fn a_stream_has_a_bound_of_all_its_calls() {
    let mut settings = HookSettings::default();
    settings.limits.max_fuel = 400_000;
    settings.limits.max_stream_fuel = 1_000_000;
    let harness = Harness::with(settings);
    let work = "(local.set $n (i32.const 50000))
        (loop $again (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br_if $again (local.get $n)))";
    let hook = harness.hook(&stream("", &format!("{work} {SEND}"))).await;
    let (mut stream, _) = hook.open_stream(&harness.context(), Opening::default()).await.unwrap();
    let mut fuel = 0;
    let failed = loop {
        match stream.push(piece("x")).await {
            Ok((_, measured)) => fuel += measured.fuel,
            Err(error) => break error,
        }
    };
    assert_eq!(failed.kind, HookErrorKind::OutOfFuel);
    assert!((600_000..=1_000_000).contains(&fuel), "{fuel}");
}

/// Handles of its own resource, which the host holds in its own memory.
#[tokio::test]
async fn handles_that_are_never_given_back_end_at_their_number() {
    let harness = Harness::new();
    let leak = "(local.set $n (i32.const 1000000))
        (loop $again (drop (call $new (i32.const 1)))
            (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br_if $again (local.get $n)))";
    let hook = harness.hook(&stream("", &format!("{leak} {SEND}"))).await;
    let (mut open, _) = hook.open_stream(&harness.context(), Opening::default()).await.unwrap();
    assert_eq!(open.push(piece("x")).await.unwrap_err().kind, HookErrorKind::TooManyHandles);
    // One that gives them back may go on for as long as it has fuel.
    let back = leak.replace("(drop (call $new (i32.const 1)))", "(call $drop (call $new (i32.const 1)))");
    let hook = harness.hook(&stream("", &format!("{} {SEND}", back.replace("1000000", "10000")))).await;
    let (mut open, _) = hook.open_stream(&harness.context(), Opening::default()).await.unwrap();
    assert_eq!(open.push(piece("x")).await.unwrap().0, Step::Send("x".to_owned()));
}

/// It drops the handle of the stream that it is called with.
#[tokio::test]
async fn a_hook_cannot_drop_the_stream_under_the_host() {
    let harness = Harness::new();
    let hook = harness.hook(&stream("", &format!("(call $drop (i32.const 1)) {SEND}"))).await;
    let (mut open, _) = hook.open_stream(&harness.context(), Opening::default()).await.unwrap();
    let error = open.push(piece("x")).await.unwrap_err();
    assert_eq!(error.kind, HookErrorKind::Invalid);
    assert!(open.has_ended());
}

#[tokio::test]
async fn a_stream_whose_caller_left_in_the_middle_has_ended() {
    let harness = Harness::with(with_processor(std::time::Duration::from_secs(10)));
    let hook = harness.hook(&until(2, "(loop $again (br $again)) unreachable")).await;
    let (mut stream, _) = hook.open_stream(&harness.context(), Opening::default()).await.unwrap();
    stream.push(piece("one")).await.unwrap();
    let push = tokio::time::timeout(std::time::Duration::from_millis(30), stream.push(piece("two"))).await;
    assert!(push.is_err());
    assert_eq!(stream.push(piece("three")).await.unwrap_err().kind, HookErrorKind::Ended);
}

#[tokio::test]
async fn streams_that_are_open_have_their_number() {
    let mut settings = HookSettings { max_streams: 2, max_wait: std::time::Duration::ZERO, ..HookSettings::default() };
    settings.max_running_per_tenant = 1;
    let harness = Harness::with(settings);
    let hook = harness.hook(&stream("", SEND_NOTHING)).await;
    let context = harness.context();
    let (first, _) = hook.open_stream(&context, Opening::default()).await.unwrap();
    let mut open = vec![first];
    let refused = loop {
        match hook.open_stream(&context, Opening::default()).await {
            Ok((stream, _)) => open.push(stream),
            Err(error) => break error,
        }
    };
    assert!(refused.kind.is_of_host() && open.len() <= 2, "{refused:?}");
    drop(open);
    hook.open_stream(&context, Opening::default()).await.unwrap();
}

#[tokio::test]
async fn streams_of_one_tenant_have_the_number_that_was_said_for_it() {
    let settings = HookSettings { max_wait: std::time::Duration::ZERO, ..HookSettings::default() };
    let harness = Harness::with(settings);
    let hook = harness.hook(&stream("", SEND_NOTHING)).await;
    let (mut context, mut another) = (harness.context(), harness.context());
    context.limits.max_streams = 1;
    another.tenant = souk_protocol::TenantId::from_stored("another");
    let (first, _) = hook.open_stream(&context, Opening::default()).await.unwrap();
    let refused = hook.open_stream(&context, Opening::default()).await.err().unwrap();
    assert_eq!(refused.kind, HookErrorKind::ShareTaken);
    let (others, _) = hook.open_stream(&another, Opening::default()).await.unwrap();
    drop(first);
    hook.open_stream(&context, Opening::default()).await.unwrap();
    drop(others);
}
