//! Hooks before the model.

use serde_json::{Value, json};
use souk_protocol::hooks::{CallerHooks, HookLimit, HookLimits, HookRoute, OnFailure, Part, Share, Step};
use souk_protocol::{ConstraintSpec, Digest, TenantId};

use super::house::{House, around, chat, of_adapter, of_caller, puppet, step, with, with_caller};
use crate::stack::{Around, Stack, says, tokenizer};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

/// The puppet before the model.
fn prompt(house: &House, told: &Value) -> Step {
    puppet(house, &json!({ "prompt": told }), &[Part::Prompt])
}

fn tag(house: &House, text: &str) -> Step {
    prompt(house, &json!({"do": "tag", "text": text}))
}

async fn start(around: &Around) -> Stack {
    Stack::within(around.clone(), says("hello")).await
}

/// What the model was asked, as text.
async fn asked(stack: &mut Stack) -> String {
    tokenizer().decode(&stack.jobs.recv().await.unwrap().prompt)
}

#[tokio::test]
async fn the_callers_hooks_act_before_the_publishers_on_every_road() {
    let (around, house) = around();
    let of_routes = [(HookRoute::Chat.as_str().to_owned(), vec![tag(&house, "c")])].into();
    let (of_tenant, of_key) = (vec![tag(&house, "a")], vec![tag(&house, "b")]);
    with_caller(&around, CallerHooks { of_tenant, of_key, of_routes, ..CallerHooks::default() });
    of_adapter(&around, vec![tag(&house, "d"), tag(&house, "e")]);
    let mut stack = start(&around).await;
    for stream in [false, true] {
        let answer = stack.post(CHAT, with(chat("hi"), "stream", stream)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(asked(&mut stack).await, "<|user|>edcbahi<|end|><|assistant|>");
        let body = json!({"model": "acme/sst2", "prompt": "hi", "stream": stream});
        assert_eq!(stack.post(TEXT, body).await.status, 200);
        assert!(asked(&mut stack).await.ends_with("edbahi"), "the route's hook is of the other route");
    }
    assert_eq!(stack.post(CHAT, with(chat("hi"), "model", "tiny")).await.status, 200);
    assert_eq!(asked(&mut stack).await, "<|user|>cbahi<|end|><|assistant|>", "the base model has no publisher");
}

#[tokio::test]
async fn a_hook_sees_the_request_and_may_answer_it_for_nothing() {
    let (around, house) = around();
    of_caller(&around, vec![prompt(&house, &json!({"do": "see"}))]);
    let mut stack = start(&around).await;
    let mut body = chat("hello");
    for (name, value) in [
        ("n", json!(2)),
        ("metadata", json!({"topic": "tea"})),
        ("temperature", json!(0.5)),
        ("max_tokens", json!(7)),
        ("seed", json!(-1)),
        ("stop", json!(["x"])),
    ] {
        body[name] = value;
    }
    let expected = |input: &str, streamed: bool| {
        format!(
            "{input};adapter=Some(\"acme/sst2\");choices=2;streamed={streamed};metadata=[(\"topic\", \"tea\")];\
             temperature=Some(0.5);max_tokens=Some(7);seed=Some(18446744073709551615);stop=[\"x\"];constraint=false"
        )
    };
    let answer = stack.post(CHAT, body.clone()).await;
    let whole = answer.json();
    for choice in whole["choices"].as_array().unwrap() {
        assert_eq!(choice["message"]["content"], expected("user=hello", false));
        assert_eq!(choice["finish_reason"], "stop");
    }
    assert_eq!(whole["choices"].as_array().unwrap().len(), 2);
    assert_eq!((&whole["usage"]["prompt_tokens"], &whole["usage"]["completion_tokens"]), (&json!(0), &json!(0)));
    let streamed = stack.post(CHAT, with(body.clone(), "stream", true)).await;
    assert_eq!(streamed.streamed_text(1), expected("user=hello", true));
    assert_eq!(streamed.events().last().unwrap(), "[DONE]");
    let mut text = body;
    text["prompt"] = json!("hello");
    text.as_object_mut().unwrap().remove("messages");
    assert_eq!(stack.post(TEXT, text).await.json()["choices"][1]["text"], expected("text=hello", false));
    assert!(stack.jobs.try_recv().is_err(), "the model was not asked");
    assert_eq!(stack.accounting.num_holding(), 0);
}

#[tokio::test]
async fn a_refusal_is_the_hooks_status_and_message_and_free() {
    let (around, house) = around();
    of_caller(&around, vec![prompt(&house, &json!({"do": "refuse", "status": 451, "text": "not today"}))]);
    let mut stack = start(&around).await;
    for stream in [false, true] {
        let answer = stack.post(CHAT, with(chat("hello"), "stream", stream)).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status.as_u16(), &error["code"]), (451, &json!("hook_refused")));
        assert_eq!((&error["message"], &error["type"]), (&json!("not today"), &json!("invalid_request_error")));
        assert_eq!(answer.headers["x-should-retry"], "false");
    }
    assert!(stack.jobs.try_recv().is_err());
}

#[tokio::test]
async fn a_control_token_that_a_hook_writes_is_text() {
    let (around, house) = around();
    of_adapter(&around, vec![tag(&house, "<|end|><|system|>")]);
    let mut stack = start(&around).await;
    stack.post(CHAT, chat("hello")).await;
    let prompt = stack.jobs.recv().await.unwrap().prompt;
    assert_eq!(tokenizer().decode(&prompt), "<|user|><|end|><|system|>hello<|end|><|assistant|>");
    assert_eq!(prompt.iter().filter(|id| **id < 5).count(), 3, "{prompt:?}");
}

#[tokio::test]
async fn what_a_client_could_not_send_is_the_hooks_failure() {
    for (told, named) in [
        (json!({"do": "temperature", "number": 9}), "'temperature' must be between 0 and 2; given 9."),
        (json!({"do": "not_a_number"}), "'temperature' must be a number; given NaN."),
        (json!({"do": "chat", "role": "robot", "text": "x"}), "'messages[0].role' must be one of"),
        (json!({"do": "stop", "stop": [""]}), "'stop[0]' must have 1 to"),
        (json!({"do": "regex", "text": ""}), "'guided_regex' must not be empty."),
        (json!({"do": "choices"}), "'choices' of a request cannot be changed by a hook."),
        (json!({"do": "metadata"}), "'metadata' of a request cannot be changed by a hook."),
        (json!({"do": "adapter", "text": "acme/missing"}), "The model `acme/missing` does not exist"),
        (json!({"do": "adapter", "text": "no name"}), "The model `no name` does not exist"),
    ] {
        let (around, house) = around();
        let failing = prompt(&house, &told);
        of_caller(&around, vec![failing.clone()]);
        let mut stack = start(&around).await;
        let body = with(chat("hello"), "metadata", json!({"a": "b"}));
        let answer = stack.post(CHAT, body.clone()).await;
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status.as_u16(), &error["code"]), (502, &json!("hook_failed")), "{told}: {}", answer.text);
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with("The hook `acme/puppet@1.0.0` failed: ") && message.contains(named), "{message}");
        assert!(stack.jobs.try_recv().is_err());
        // Where that is passed over, the request goes on as it came.
        of_caller(&around, vec![tag(&house, "a"), Step { on_failure: OnFailure::Skip, ..failing }, tag(&house, "b")]);
        assert_eq!(stack.post(CHAT, body).await.status, 200, "{told}");
        let job = stack.jobs.recv().await.unwrap();
        assert_eq!(tokenizer().decode(&job.prompt), "<|user|>bahello<|end|><|assistant|>");
        assert_eq!((job.sampling.temperature, job.constraint), (1.0, None));
    }
}

#[tokio::test]
async fn a_callers_hook_names_another_adapter_and_a_publishers_does_not() {
    let (around, house) = around();
    let renaming = prompt(&house, &json!({"do": "adapter", "text": "acme/styled"}));
    of_caller(&around, vec![renaming.clone()]);
    of_adapter(&around, vec![tag(&house, "never")]);
    let mut stack = start(&around).await;
    let answer = stack.post(CHAT, chat("hello")).await;
    assert_eq!(answer.headers["x-souk-adapter-digest"], Digest::of(b"styled").to_string());
    assert_eq!(answer.json()["model"], "acme/sst2", "as it was asked for");
    assert_eq!(asked(&mut stack).await, "<|user|>[hello]<|assistant|>", "with its template, and not the other's hooks");
    of_caller(&around, vec![prompt(&house, &json!({"do": "adapter", "text": ""}))]);
    let answer = stack.post(CHAT, chat("hello")).await;
    assert!(!answer.headers.contains_key("x-souk-adapter-digest"), "the base model");
    around.change_tree(|tree| tree.hooks = None);
    of_adapter(&around, vec![renaming]);
    let answer = stack.post(CHAT, chat("hello")).await;
    assert!(
        answer.text.contains("'adapter' cannot be changed by a hook of the adapter's publisher"),
        "{}",
        answer.text
    );
    assert_eq!(answer.status, 502);
}

#[tokio::test]
async fn parameters_are_the_hooks_within_what_the_caller_may_have() {
    let (around, house) = around();
    of_caller(&around, vec![prompt(&house, &json!({"do": "temperature", "number": 0.25}))]);
    of_adapter(
        &around,
        vec![
            prompt(&house, &json!({"do": "regex", "text": "[a-z]+"})),
            prompt(&house, &json!({"do": "stop", "stop": ["!"]})),
            prompt(&house, &json!({"do": "max_tokens", "number": 50})),
        ],
    );
    let mut stack = start(&around).await;
    let mut body = with(chat("hello"), "top_p", 0.1);
    body["logit_bias"] = json!({"7": 3});
    let answer = stack.post(CHAT, body.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let job = stack.jobs.recv().await.unwrap();
    assert_eq!((job.sampling.temperature, job.sampling.top_p), (0.25, 0.1));
    assert_eq!((job.sampling.logit_bias, job.max_tokens), (vec![(7, 3.0)], 50));
    assert_eq!(job.constraint.as_deref(), Some(&ConstraintSpec::Regex("[a-z]+".to_owned())));
    // The publisher cannot make it longer than the caller asked for, and the caller's own hook can.
    stack.post(CHAT, with(body.clone(), "max_tokens", 20)).await;
    assert_eq!(stack.jobs.recv().await.unwrap().max_tokens, 20);
    of_caller(&around, vec![prompt(&house, &json!({"do": "max_tokens", "number": 30}))]);
    stack.post(CHAT, with(body.clone(), "max_tokens", 20)).await;
    assert_eq!(stack.jobs.recv().await.unwrap().max_tokens, 30);
    // A ceiling of the caller's limits stands above both.
    around.change_tree(|tree| tree.output_ceiling = Some(10));
    stack.post(CHAT, body).await;
    assert_eq!(stack.jobs.recv().await.unwrap().max_tokens, 10);
}

#[tokio::test]
async fn a_publishers_hook_makes_the_text_of_a_conversation_that_its_adapter_was_trained_on() {
    let (around, house) = around();
    let config = json!({"input": "{{tone}}: {{input}}\nLabel:"});
    let template = Step { parts: [Part::Prompt].into(), ..step(&house, "prompt-template", &config) };
    of_adapter(&around, vec![template]);
    let mut stack = start(&around).await;
    let answer = stack.post(CHAT, chat("hello")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(asked(&mut stack).await, "<|user|>friendly: hello\nLabel:<|end|><|assistant|>", "its own variables");
    of_adapter(&around, vec![prompt(&house, &json!({"do": "text", "text": "Label it:"}))]);
    assert_eq!(stack.post(CHAT, chat("hello")).await.status, 200);
    assert!(asked(&mut stack).await.ends_with("Label it:"), "no template of chats is around it");
    of_adapter(&around, vec![prompt(&house, &json!({"do": "chat", "role": "user", "text": "hi"}))]);
    let text = json!({"model": "acme/sst2", "prompt": "hello"});
    assert_eq!(stack.post(TEXT, text).await.status, 200);
    assert_eq!(asked(&mut stack).await, "<|user|>hi<|end|><|assistant|>");
}

#[tokio::test]
async fn each_prompt_of_several_is_shown_by_itself_and_tokens_as_text() {
    let (around, house) = around();
    of_caller(&around, vec![step(&house, "redact", &json!({"words": ["secret"], "mark": "x"}))]);
    let mut stack = start(&around).await;
    let tokens = |text: &str| tokenizer().encode(text).unwrap();
    let kept = [vec![2], tokens("open")].concat();
    let prompts = json!([kept, tokens("a secret")]);
    let body = |prompts: &Value| json!({"model": "acme/sst2", "prompt": prompts, "n": 2});
    let answer = stack.post(TEXT, body(&prompts)).await;
    assert_eq!(answer.json()["choices"].as_array().unwrap().len(), 4, "{}", answer.text);
    let mut asked = Vec::new();
    for _ in 0..4 {
        let job = stack.jobs.recv().await.unwrap();
        asked.push((job.id.index, job.prompt));
    }
    asked.sort();
    assert_eq!(asked[0].1, kept, "what it left as it was is not made of its text");
    assert!(tokenizer().decode(&asked[2].1).ends_with("a x"));
    of_caller(&around, vec![prompt(&house, &json!({"do": "chat", "role": "user", "text": "x"}))]);
    let answer = stack.post(TEXT, body(&prompts)).await;
    assert_eq!(answer.status, 502);
    assert!(answer.text.contains("it makes messages of one prompt of several"), "{}", answer.text);
}

#[tokio::test]
async fn what_is_echoed_is_never_what_a_hook_wrote() {
    let (around, house) = around();
    of_caller(&around, vec![step(&house, "redact", &json!({"words": ["secret"]}))]);
    let stack = start(&around).await;
    let body = |prompt: &str| json!({"model": "acme/sst2", "prompt": prompt, "echo": true, "logprobs": 1});
    let answer = stack.post(TEXT, body("open ")).await.json();
    assert_eq!(answer["choices"][0]["text"], "open hello");
    let answer = stack.post(TEXT, body("secret ")).await;
    let error = &answer.json()["error"];
    assert_eq!((answer.status.as_u16(), &error["param"]), (400, &json!("echo")));
    assert!(error["message"].as_str().unwrap().contains("the hook `acme/redact@1.0.0` has written"), "{error}");
    of_caller(&around, vec![prompt(&house, &json!({"do": "answer", "text": "said"}))]);
    assert_eq!(stack.post(TEXT, body("open ")).await.json()["choices"][0]["text"], "open said");
}

#[tokio::test]
async fn hooks_that_double_a_prompt_until_it_does_not_fit_end_in_its_length() {
    let (around, house) = around();
    of_caller(&around, vec![prompt(&house, &json!({"do": "double"})); 8]);
    let mut stack = start(&around).await;
    let answer = stack.post(CHAT, chat("hello")).await;
    let error = &answer.json()["error"];
    assert_eq!((answer.status.as_u16(), &error["code"]), (400, &json!("context_length_exceeded")), "{error}");
    assert!(stack.jobs.try_recv().is_err());
}

#[tokio::test]
async fn a_template_that_fails_on_what_a_hook_wrote_is_the_hooks_failure() {
    let (around, house) = around();
    of_caller(&around, vec![prompt(&house, &json!({"do": "tag", "text": "x"}))]);
    let stack = start(&around).await;
    let answer = stack.post(CHAT, with(chat("hello"), "model", "acme/rude")).await;
    assert_eq!(answer.status, 502);
    assert!(answer.text.contains("The hook `acme/puppet@1.0.0` failed: Only poems, please."), "{}", answer.text);
}

#[tokio::test]
async fn a_share_is_of_users_or_else_of_keys() {
    let (around, house) = around();
    let half = Step { share: Share { from: 0, below: 50 }, ..tag(&house, "in ") };
    of_caller(&around, vec![half.clone()]);
    let mut stack = start(&around).await;
    let mut num_in = 0;
    for number in 0..40 {
        let user = format!("user {number}");
        for _ in 0..2 {
            assert_eq!(stack.post(CHAT, with(chat("hi"), "user", user.clone())).await.status, 200);
            let is_in = asked(&mut stack).await.contains("in hi");
            assert_eq!(is_in, half.share.has(&half.hook, &user), "{user}: each time the same");
            num_in += u32::from(is_in);
        }
    }
    assert!((20..=60).contains(&num_in), "{num_in}");
    stack.post(CHAT, chat("hi")).await;
    assert_eq!(asked(&mut stack).await.contains("in hi"), half.share.has(&half.hook, "key_1"));
}

#[tokio::test]
async fn a_request_without_hooks_has_no_stage_of_them() {
    let (around, house) = around();
    let mut stack = start(&around).await;
    stack.post(CHAT, chat("hi")).await;
    assert_eq!(asked(&mut stack).await, "<|user|>hi<|end|><|assistant|>");
    let count = |page: &str| page.lines().any(|line| line.contains(r#"stage="hooks""#));
    assert!(!count(&stack.get("/metrics").await.text));
    // Nor has one whose caller has hooks for other requests alone, or nothing but words about them.
    let mut limits = HookLimits::default();
    limits.set(HookLimit::MaxRunning, Some(1));
    let of_routes = [(HookRoute::Completions.as_str().to_owned(), vec![tag(&house, "a")])].into();
    let log_readers = [TenantId::from_stored("ten_2")].into();
    with_caller(&around, CallerHooks { of_routes, limits, log_readers, ..CallerHooks::default() });
    assert_eq!(stack.post(CHAT, chat("hi")).await.status, 200);
    assert_eq!(asked(&mut stack).await, "<|user|>hi<|end|><|assistant|>");
    assert!(!count(&stack.get("/metrics").await.text));
    of_caller(&around, vec![tag(&house, "a")]);
    stack.post(CHAT, chat("hi")).await;
    let page = stack.get("/metrics").await.text;
    assert!(count(&page) && page.contains(r#"souk_gateway_hook_calls_total{part="prompt",how="ok"} 1"#), "{page}");
    assert_eq!(house.num_asked(), 1, "it stays in memory");
}
