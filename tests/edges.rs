//! Sampling parameters at the edges of what numbers can be, against the real server: the right token or a 400 that
//! names the field.

mod stack;

use serde_json::{Value, json};
use stack::{BASE, Stack};

const PROMPT: &str = "The capital of France is";

async fn ask(stack: &Stack, more: &Value) -> (u16, Value) {
    let mut body = json!({"model": BASE, "prompt": PROMPT, "max_tokens": 6, "seed": 1});
    for (name, value) in more.as_object().expect("the fields of a request") {
        body[name] = value.clone();
    }
    stack.post("/v1/completions", &body).await
}

async fn text(stack: &Stack, more: &Value) -> String {
    let (status, answer) = ask(stack, more).await;
    assert_eq!(status, 200, "{more}: {answer}");
    answer["choices"][0]["text"].as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn whatever_leaves_the_likeliest_token_alone_answers_as_greedy_does_under_constraints_too() {
    let stack = Stack::start();
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]});
    for form in [json!({}), json!({"guided_regex": " [A-Z][a-z]{2,8}"}), json!({"guided_json": schema})] {
        let with = |name: &str, value: Value| {
            let mut fields = form.clone();
            fields[name] = value;
            fields
        };
        let greedy = text(&stack, &with("temperature", json!(0))).await;
        for (name, value) in [
            ("temperature", json!(-0.0)),
            ("temperature", json!(5e-324)),
            ("temperature", json!(1e-45)),
            ("temperature", json!(2.9e-39)),
            ("temperature", json!(1e-6)),
            ("top_p", json!(0)),
            ("top_p", json!(1e-45)),
            ("top_k", json!(1)),
            ("min_p", json!(1)),
        ] {
            let fields = with(name, value);
            assert_eq!(text(&stack, &fields).await, greedy, "{fields}");
        }
    }
}

#[tokio::test]
async fn what_no_formula_can_use_is_refused_by_name_and_the_limits_work_together() {
    let stack = Stack::start();
    for (field, value, limits) in [
        ("repetition_penalty", json!(1e-40), "between 0.01 and 2"),
        ("repetition_penalty", json!(0), "between 0.01 and 2"),
        ("temperature", json!(1e300), "between 0 and 2"),
        ("top_p", json!(-0.001), "between 0 and 1"),
        ("seed", json!(u64::MAX), "between -9223372036854775808 and"),
        ("top_k", json!(1e19), "between -1 and 4294967295"),
    ] {
        let (status, answer) = ask(&stack, &json!({ field: value })).await;
        let message = answer["error"]["message"].as_str().expect("a sentence");
        assert_eq!((status, answer["error"]["param"].as_str()), (400, Some(field)), "{answer}");
        assert!(message.contains(limits) && message.ends_with(&format!("given {value}.")), "{message}");
    }
    let least = json!({
        "temperature": 0.00001, "top_p": 5e-324, "min_p": 5e-324, "top_k": 4_294_967_295_u64, "repetition_penalty": 0.01,
        "presence_penalty": -2, "frequency_penalty": -2, "logit_bias": {"0": -100, "7": 100, "49151": -100}, "logprobs": 20,
    });
    let most = json!({
        "temperature": 2, "top_p": 1, "min_p": 1, "top_k": 1, "repetition_penalty": 2, "presence_penalty": 2,
        "frequency_penalty": 2, "logit_bias": {"0": 100, "49151": 100}, "logprobs": 20, "seed": i64::MIN,
    });
    for fields in [least, most] {
        let (status, answer) = ask(&stack, &fields).await;
        assert_eq!(status, 200, "{fields}: {answer}");
        assert!(!answer.to_string().contains("null,null"), "every logprob is a number: {answer}");
    }
}
