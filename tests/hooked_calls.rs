//! Calls that hooks act on, through the real server: published by the command line, compiled by the process apart, called by the official client.

mod stack;

use serde_json::{Value, json};
use stack::Stack;

/// Publishes a guest of the tests as the operator's.
fn publish(stack: &Stack, name: &str) {
    let component = stack::repository().join(format!("plugins/tests/guests/{name}.wasm"));
    let component = component.to_str().expect("the path is text");
    stack.souk(&["hook", "publish", component, &format!("admin/{name}@1.0.0")]);
}

/// Has a hook alone act on chats, and the official client meet it.
fn meet(stack: &Stack, name: &str, config: &Value, stage: &str) {
    let (hook, config) = (format!("admin/{name}"), config.to_string());
    stack.souk(&["hook", "attach", &hook, "--route", "chat", "--hook-config", &config]);
    // What a gateway knows of rights is never older than a second.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    stack.python_with("hooks.py", &[("SOUK_STAGE", stage)]);
    stack.souk(&["hook", "detach", &hook, "--route", "chat"]);
}

#[test]
fn the_official_client_goes_through_hooks() {
    let stack = Stack::start();
    publish(&stack, "redact");
    publish(&stack, "puppet");
    meet(&stack, "redact", &json!({"words": ["Berlin"], "mark": "Bonn"}), "replaced");
    let tagged = json!({"prompt": {"do": "answer", "text": "said by a hook"}});
    meet(&stack, "puppet", &tagged, "answered");
    meet(&stack, "puppet", &json!({"prompt": {"do": "refuse", "status": 422, "text": "not this"}}), "refused");
    meet(&stack, "puppet", &json!({"prompt": {"do": "trap"}}), "failed");
    meet(&stack, "puppet", &json!({"stream": {"do": "end", "after": 3}}), "ended");
    let regex = json!({"prompt": {"do": "regex", "text": "[A-Z]{3}"}});
    meet(&stack, "puppet", &regex, "constrained");
    let told = stack.souk(&["hook", "logs", "admin/puppet", "--json"]);
    assert!(told.contains("trap"), "{told}");
}
