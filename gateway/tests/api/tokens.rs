//! `/tokenize`, `/detokenize` and `/tokenizer_info`, in the shapes that evaluation harnesses probe.

use serde_json::json;

use crate::stack::{Stack, says, tokenizer};
use crate::support::tiny::tiny_base;

#[tokio::test]
async fn text_becomes_tokens_and_text_again() {
    let stack = Stack::start(says("")).await;
    let answer = stack.post("/tokenize", json!({"prompt": "hello é", "add_special_tokens": false})).await.json();
    let expected = tokenizer().encode("hello é").unwrap();
    assert_eq!(answer["tokens"], json!(expected));
    assert_eq!(
        (&answer["count"], &answer["max_model_len"]),
        (&json!(expected.len()), &json!(tiny_base().shape.context_length))
    );
    let back = stack.post("/detokenize", json!({"tokens": answer["tokens"]})).await.json();
    assert_eq!(back, json!({"prompt": "hello é"}));
}

#[tokio::test]
async fn a_conversation_becomes_the_tokens_that_a_chat_would_have() {
    let mut stack = Stack::start(says("hello")).await;
    let messages = json!([{"role": "user", "content": "hello"}]);
    let body = json!({"model": "acme/sst2", "messages": messages, "return_token_strs": true});
    let answer = stack.post("/tokenize", body).await.json();
    stack.post("/v1/chat/completions", json!({"model": "tiny", "messages": messages})).await;
    assert_eq!(answer["tokens"], json!(stack.jobs.recv().await.unwrap().prompt));
    assert_eq!(answer["token_strs"], json!(["<|user|>", "hello", "<|end|>", "<|assistant|>"]));
}

#[tokio::test]
async fn the_tokenizer_describes_itself() {
    let stack = Stack::start(says("")).await;
    let answer = stack.get("/tokenizer_info").await;
    insta::assert_json_snapshot!("tokenizer_info", answer.json());
}

#[tokio::test]
async fn bad_requests_name_their_field() {
    let stack = Stack::start(says("")).await;
    for (path, body, param) in [
        ("/tokenize", json!({}), "prompt"),
        ("/tokenize", json!({"prompt": "x", "messages": []}), "prompt"),
        ("/tokenize", json!({"prompt": "x", "extra": 1}), "extra"),
        ("/detokenize", json!({}), "tokens"),
        ("/detokenize", json!({"tokens": [1, 99_999]}), "tokens"),
        ("/detokenize", json!({"tokens": [1, -1]}), "tokens[1]"),
    ] {
        let answer = stack.post(path, body.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.json()["error"]["param"].as_str()), (400, Some(param)), "{body}");
    }
}
