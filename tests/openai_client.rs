//! The official OpenAI client for Python against the real server.

mod stack;

use serde_json::json;
use stack::Stack;

#[test]
fn the_official_client_chats_streams_scores_and_lists() {
    let stack = Stack::start();
    stack.push_examples();
    stack.python("chat.py");
}

#[test]
fn the_official_client_is_refused_in_its_own_terms() {
    let stack = Stack::start();
    stack.push_examples();
    stack.python("errors.py");
}

#[test]
fn the_official_client_gets_answers_of_a_given_form() {
    let stack = Stack::start();
    stack.push_examples();
    stack.python("constraints.py");
    let code = stack.souk(&["chat", "--regex", "[A-Z]{3}-[0-9]{2}", "Invent a code."]);
    let (letters, digits) = code.trim_end().split_once('-').expect("the form holds");
    assert!(letters.len() == 3 && letters.bytes().all(|byte| byte.is_ascii_uppercase()), "{code}");
    assert!(digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{code}");
    let choice = stack.souk(&["chat", "--raw", "--choice", " yes", "--choice", " no", "Is water wet?\nAnswer:"]);
    assert!([" yes\n", " no\n"].contains(&choice.as_str()), "{choice}");
    let file = tempfile::NamedTempFile::with_suffix(".json").expect("a temporary file");
    std::fs::write(file.path(), r#"{"type": "integer", "minimum": 1, "maximum": 12}"#).expect("it can be written");
    let path = file.path().to_str().expect("the path is text");
    let month: u8 =
        stack.souk(&["chat", "--json-schema", path, "Which month is it?"]).trim().parse().expect("a number");
    assert!((1..=12).contains(&month));
    let refused = stack.souk_output(&["chat", "--regex", "(?=a)", "Hello"]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("look-around"));
}

#[tokio::test]
async fn the_limits_of_constraints_are_settings() {
    let stack = Stack::start_with(&[
        ("SOUK_CONSTRAINTS__MAX_SOURCE_BYTES", "400"),
        ("SOUK_CONSTRAINTS__MAX_CHOICES", "2"),
        ("SOUK_CONSTRAINTS__MAX_COMPILE_WORK", "3000"),
        ("SOUK_CONSTRAINTS__MAX_MASK_WORK", "2000"),
    ]);
    for (field, value, code, contains) in [
        ("guided_regex", json!("a".repeat(401)), "invalid_value", "400 bytes; given 401"),
        ("guided_choice", json!(["a", "b", "c"]), "invalid_value", "1 to 2 entries; given 3"),
        ("guided_json", json!({"type": "integer", "multipleOf": 997}), "invalid_constraint", "3000"),
        ("guided_regex", json!("(.{0,9}a){9}"), "invalid_constraint", "too complex"),
    ] {
        let message = json!({"role": "user", "content": "Say something."});
        let mut body = json!({"model": stack::BASE, "messages": [message], "max_tokens": 20});
        body[field] = value;
        let (status, answer) = stack.post("/v1/chat/completions", &body).await;
        let error = &answer["error"];
        assert_eq!(
            (status, error["param"].as_str(), error["code"].as_str()),
            (400, Some(field), Some(code)),
            "{answer}"
        );
        assert!(error["message"].as_str().expect("a sentence").contains(contains), "{answer}");
        body[field] = serde_json::Value::Null;
        body["guided_choice"] = json!(["yes", "no"]);
        assert_eq!(stack.post("/v1/chat/completions", &body).await.0, 200);
    }
}

#[test]
fn a_client_that_goes_away_takes_its_request_out_of_the_batch() {
    let stack = Stack::start();
    stack.python("disconnect.py");
}
