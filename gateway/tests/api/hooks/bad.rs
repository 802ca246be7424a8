//! Hooks that fail, and those that may not run.

use serde_json::{Value, json};
use souk_protocol::TenantId;
use souk_protocol::hooks::{CallerHooks, HookLimit, HookLimits, HookTold, OnFailure, Part, Standing, Step};

use super::house::{House, STRANGER, around, chat, of_adapter, of_adapter_within, of_caller, puppet, with_caller};
use crate::stack::{Stack, says};

const CHAT: &str = "/v1/chat/completions";

fn prompt(house: &House, told: &Value) -> Step {
    puppet(house, &json!({ "prompt": told }), &[Part::Prompt])
}

#[tokio::test]
async fn each_way_to_fail_has_a_reason_and_may_be_passed_over() {
    let (around, house) = around();
    let stack = Stack::within(around.clone(), says("hello")).await;
    let never = json!({"do": "nothing"});
    let cases = [
        (prompt(&house, &json!({"do": "trap", "text": "secret"})), "it stopped with a trap"),
        (prompt(&house, &json!({"do": "loop"})), "it took more instructions than it may"),
        (Step { standing: Standing::TakenDown, ..prompt(&house, &never) }, "it was taken down"),
        (
            Step { standing: Standing::NotGranted, ..prompt(&house, &never) },
            "its owner does not let the tenant use it any more",
        ),
    ];
    for (step, reason) in cases {
        of_caller(&around, vec![step.clone()]);
        let answer = stack.post(CHAT, chat("hi")).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status.as_u16(), &error["code"]), (502, &json!("hook_failed")), "{reason}: {error}");
        assert_eq!(error["message"], format!("The hook `acme/puppet@1.0.0` failed: {reason}."));
        assert_eq!(
            (&error["type"], answer.headers["x-should-retry"].to_str().unwrap()),
            (&json!("server_error"), "false")
        );
        of_caller(&around, vec![Step { on_failure: OnFailure::Skip, ..step }]);
        let answer = stack.post(CHAT, chat("hi")).await;
        assert_eq!(answer.status, 200, "{reason}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_hook_that_is_nowhere_to_be_had_fails_before_the_model() {
    let (around, house) = around();
    let answering = puppet(&house, &json!({"answer": {"do": "tag", "text": "A"}}), &[Part::Answer]);
    house.lose(&answering.digest);
    of_caller(&around, vec![answering]);
    let mut stack = Stack::within(around, says("hello")).await;
    let answer = stack.post(CHAT, chat("hi")).await;
    assert_eq!(answer.status, 502);
    assert!(answer.text.contains("failed: there is no such hook any more."), "{}", answer.text);
    assert!(stack.jobs.try_recv().is_err());
}

#[tokio::test]
async fn a_gateway_that_calls_no_hooks_lets_no_request_by_them() {
    let (with_hooks, house) = around();
    let (around, step) = (crate::stack::Around::default(), prompt(&house, &json!({"do": "nothing"})));
    drop(with_hooks);
    of_caller(&around, vec![step]);
    let stack = Stack::within(around, says("hello")).await;
    let answer = stack.post(CHAT, chat("hi")).await;
    assert_eq!(answer.status, 502);
    assert!(answer.text.contains("this gateway calls no hooks"), "{}", answer.text);
}

#[tokio::test]
async fn a_hooks_owner_hears_of_its_own_requests_all_and_of_others_how_it_failed() {
    let (around, house) = around();
    let of_stranger = |step: Step| Step { owner: TenantId::from_stored(STRANGER), ..step };
    let logging = prompt(&house, &json!({"do": "log", "text": "seen"}));
    let trapping = prompt(&house, &json!({"do": "trap", "text": "secret"}));
    of_caller(&around, vec![logging.clone(), trapping.clone()]);
    let stack = Stack::within(around.clone(), says("hello")).await;
    stack.post(CHAT, chat("hi")).await;
    let lines = house.lines(3).await;
    let logged = lines.iter().filter_map(|line| match &line.what {
        HookTold::Log { level, text } => Some((level.as_str(), text.as_str())),
        HookTold::Failed { .. } => None,
    });
    assert!(logged.clone().any(|line| line == ("info", "seen")), "{lines:?}");
    assert!(lines.iter().all(|line| line.request.is_some()));
    let failed = lines.iter().find_map(|line| match &line.what {
        HookTold::Failed { part, code, detail } => Some((*part, code.clone(), detail.clone())),
        HookTold::Log { .. } => None,
    });
    let (part, code, detail) = failed.unwrap();
    assert_eq!((part, code.as_str(), detail.is_some()), (Part::Prompt, "trap", true));

    around.change_tree(|tree| tree.hooks = None);
    of_adapter(&around, vec![of_stranger(logging), of_stranger(trapping)]);
    assert_eq!(stack.post(CHAT, chat("hi")).await.status, 502);
    let lines = house.lines(1).await;
    assert_eq!(lines.len(), 1, "nothing that it wrote: {lines:?}");
    assert_eq!(lines[0].request, None);
    assert_eq!(lines[0].what, HookTold::Failed { part: Part::Prompt, code: "trap".to_owned(), detail: None });
}

#[tokio::test]
async fn a_hook_takes_what_was_said_for_whoever_attached_it_and_no_more_than_the_ceiling() {
    let (around, house) = around();
    let tag = prompt(&house, &json!({"do": "tag", "text": "x"}));
    let fuel = |fuel: u64| {
        let mut limits = HookLimits::default();
        limits.set(HookLimit::MaxFuel, Some(fuel));
        limits
    };
    let of_both = |own: HookLimits, publishers: HookLimits| {
        let of_tenant = vec![tag.clone()];
        with_caller(&around, CallerHooks { of_tenant, limits: own, ..CallerHooks::default() });
        of_adapter_within(&around, vec![Step { owner: TenantId::from_stored(STRANGER), ..tag.clone() }], publishers);
    };
    let stack = Stack::within(around.clone(), says("hello")).await;
    let status = async || {
        let answer = stack.post(CHAT, chat("hi")).await;
        let reason = "it took more instructions than it may";
        assert_eq!(answer.status == 200, !answer.text.contains(reason), "{}", answer.text);
        answer.status.as_u16()
    };
    of_both(HookLimits::default(), HookLimits::default());
    assert_eq!(status().await, 200);
    of_both(fuel(1_000), HookLimits::default());
    assert_eq!(status().await, 502, "the caller's own has what was said for the caller");
    of_both(HookLimits::default(), fuel(1_000));
    assert_eq!(status().await, 502, "the publisher's has what was said for the publisher");
    of_both(fuel(u64::MAX), fuel(u64::MAX));
    assert_eq!(status().await, 200);
    of_caller(&around, vec![prompt(&house, &json!({"do": "loop"}))]);
    around.change_tree(|tree| {
        let hooks = tree.hooks.as_deref().cloned().unwrap();
        tree.hooks = Some(std::sync::Arc::new(CallerHooks { limits: fuel(u64::MAX), ..hooks }));
    });
    assert_eq!(status().await, 502, "nothing that is said is more than the ceiling");
}

#[tokio::test]
async fn of_one_that_may_run_one_at_once_the_rest_stand_in_line() {
    let (around, house) = around();
    let mut limits = HookLimits::default();
    limits.set(HookLimit::MaxRunning, Some(1));
    let of_tenant = vec![prompt(&house, &json!({"do": "tag", "text": "x"}))];
    with_caller(&around, CallerHooks { of_tenant, limits, ..CallerHooks::default() });
    let stack = Stack::within(around, says("hello")).await;
    let answers = futures::future::join_all((0..4).map(|_| stack.post(CHAT, chat("hi")))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
}
