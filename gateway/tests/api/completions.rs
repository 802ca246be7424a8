//! `POST /v1/completions`.

use serde_json::{Value, json};

use crate::stack::{Stack, answer, says, tokenizer};

const PATH: &str = "/v1/completions";

fn body(more: &Value) -> Value {
    let mut body = json!({"model": "tiny", "prompt": "he"});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

#[tokio::test]
async fn an_answer_has_the_official_shape() {
    let mut stack = Stack::start(says("llo world, and some more of it")).await;
    let answer = stack.post(PATH, body(&json!({}))).await;
    insta::assert_json_snapshot!("completion", answer.json(), {".id" => "[id]", ".created" => "[created]"});
    let job = stack.jobs.recv().await.unwrap();
    assert_eq!((job.max_tokens, job.logprobs, job.prompt_logprobs), (16, None, None));
}

#[tokio::test]
async fn an_echo_with_logprobs_scores_prompt_and_answer() {
    let stack = Stack::start(says("llo")).await;
    let options = json!({"echo": true, "logprobs": 1, "max_tokens": 1, "prompt": tokenizer().encode("he é").unwrap()});
    let answer = stack.post(PATH, body(&options)).await.json();
    insta::assert_json_snapshot!("completion_echo_logprobs", answer["choices"]);
    let logprobs = &answer["choices"][0]["logprobs"];
    let num_tokens = tokenizer().encode("he é").unwrap().len() + 1;
    for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(logprobs[name].as_array().unwrap().len(), num_tokens, "{name}");
    }
    assert!(logprobs["token_logprobs"][0].is_null() && logprobs["top_logprobs"][0].is_null());
}

#[tokio::test]
async fn an_echo_of_no_more_than_the_prompt() {
    let mut stack = Stack::start(says("never said")).await;
    let answer = stack.post(PATH, body(&json!({"echo": true, "logprobs": 0, "max_tokens": 0}))).await.json();
    assert_eq!(answer["choices"][0]["text"], "he");
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["choices"][0]["logprobs"]["tokens"], json!(["he"]));
    assert_eq!(answer["usage"]["completion_tokens"], 0);
    assert_eq!(stack.jobs.recv().await.unwrap().max_tokens, 0);
}

#[tokio::test]
async fn the_ending_token_is_scored_for_those_who_sum() {
    let stack = Stack::start(says("")).await;
    let answer = stack.post(PATH, body(&json!({"logprobs": 1, "max_tokens": 1}))).await.json();
    assert_eq!(answer["choices"][0]["text"], "");
    assert_eq!(answer["choices"][0]["logprobs"]["tokens"], json!(["<|end|>"]));
}

#[tokio::test]
async fn several_prompts_with_several_choices_come_in_order() {
    let stack = Stack::start(std::sync::Arc::new(|job, _| {
        // Each answer repeats its prompt and says which choice it is.
        let text = format!("{}{}", tokenizer().decode(&job.prompt), job.id.index);
        answer(job, &tokenizer().encode(&text).unwrap())
    }))
    .await;
    for prompt in [json!(["a", "b"]), json!([tokenizer().encode("a").unwrap(), tokenizer().encode("b").unwrap()])] {
        let whole = stack.post(PATH, body(&json!({"prompt": prompt, "n": 2}))).await.json();
        let texts: Vec<_> = (0..4).map(|index| whole["choices"][index]["text"].clone()).collect();
        assert_eq!(texts, ["a0", "a1", "b2", "b3"]);
        assert_eq!(whole["usage"]["prompt_tokens"], 2);
        let streamed = stack.post(PATH, body(&json!({"prompt": prompt, "n": 2, "stream": true}))).await;
        let texts: Vec<_> = (0..4).map(|index| streamed.streamed_text(index)).collect();
        assert_eq!(texts, ["a0", "a1", "b2", "b3"]);
    }
}

#[tokio::test]
async fn a_stream_says_the_same_as_the_whole() {
    let stack = Stack::start(says("llo world é")).await;
    let options = json!({"echo": true, "logprobs": 2, "stop": "ld"});
    let whole = stack.post(PATH, body(&options)).await.json();
    let mut streaming = options;
    streaming["stream"] = true.into();
    streaming["stream_options"] = json!({"include_usage": true});
    let streamed = stack.post(PATH, body(&streaming)).await;
    assert_eq!(streamed.streamed_text(0), whole["choices"][0]["text"].as_str().unwrap());
    let events = streamed.events();
    for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        let parts = events.iter().filter_map(|event| event["choices"][0]["logprobs"][name].as_array());
        let joined: Vec<Value> = parts.flatten().cloned().collect();
        assert_eq!(Value::from(joined), whole["choices"][0]["logprobs"][name], "{name}");
    }
    let usage = events.iter().find_map(|event| event["usage"].as_object()).unwrap();
    assert_eq!(Value::from(usage.clone()), whole["usage"]);
}

#[tokio::test]
async fn a_text_that_the_user_wrote_is_echoed_as_it_was() {
    let stack = Stack::start(says("llo")).await;
    let text = "<|end|>\u{1}x";
    let answer = stack.post(PATH, body(&json!({"prompt": text, "echo": true}))).await.json();
    assert_eq!(answer["choices"][0]["text"], format!("{text}llo"));
}

#[tokio::test]
async fn ignore_eos_reaches_the_node() {
    let mut stack = Stack::start(says("llo")).await;
    stack.post(PATH, body(&json!({"ignore_eos": true, "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.5}))).await;
    let job = stack.jobs.recv().await.unwrap();
    assert!(job.eos_tokens.is_empty());
    let sampling = &job.sampling;
    assert_eq!((sampling.top_k, sampling.min_p, sampling.repetition_penalty), (5, 0.1, 1.5));
}
