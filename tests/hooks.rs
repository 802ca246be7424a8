//! `souk hook` against a running server: publishing through the compiler's own process, attaching, going back, variables, logs; and
//! what an installation begins with.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod stack;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stack::Stack;

/// The hook that replaces words.
fn component() -> PathBuf {
    stack::repository().join("plugins/tests/guests/redact.wasm")
}

/// The words of a command in which `COMPONENT` stands for that hook.
fn words<'a>(command: &'a str, component: &'a str) -> Vec<&'a str> {
    let words = command.split(' ').map(|word| if word == "COMPONENT" { component } else { word });
    words.chain(["--json"]).collect()
}

fn asked(stack: &Stack, command: &str) -> Value {
    let component = component();
    serde_json::from_str(&stack.souk(&words(command, component.to_str().unwrap()))).unwrap()
}

fn refused(stack: &Stack, command: &str) -> String {
    let component = component();
    let output = stack.souk_output(&words(command, component.to_str().unwrap()));
    assert!(!output.status.success(), "{command}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_hook_is_published_attached_gone_back_to_and_detached_from_the_command_line() {
    let stack = Stack::start();
    let made = asked(&stack, "hook publish COMPONENT admin/redact@1.0.0 --visibility public");
    assert_eq!((&made["id"], &made["state"]), (&json!("admin/redact@1.0.0"), &json!("ready")));
    assert!(made["report"]["self_test"]["fuel"].as_u64() > Some(0), "{made}");
    let again = refused(&stack, "hook publish COMPONENT admin/redact@1.0.0");
    assert!(again.contains("already exists"), "{again}");
    asked(&stack, "hook publish COMPONENT admin/redact@1.1.0");
    let listed = asked(&stack, "hook list --search redact");
    assert_eq!(listed[0]["latest_version"], "1.1.0");
    assert_eq!(asked(&stack, "hook show admin/redact")["versions"].as_array().unwrap().len(), 2);

    let first =
        asked(&stack, r#"hook attach admin/redact@1.0.0 --route chat --hook-config {"words":["x"]} --share 10 --skip"#);
    let step = &first["steps"][0];
    assert_eq!((&step["version"], &step["on_failure"]), (&json!("1.0.0"), &json!("skip")));
    assert_eq!(step["share"], json!({ "from": 0, "below": 10 }));
    let both = asked(&stack, r#"hook attach admin/redact --route chat --hook-config {"words":["x"]} --share 10..100"#);
    assert_eq!(both["steps"][1]["version"], "1.1.0");
    let wrong = refused(&stack, r#"hook attach admin/redact --route chat --hook-config {"word":"x"}"#);
    assert!(wrong.contains("steps[2].config.words"), "{wrong}");
    assert_eq!(asked(&stack, "hook detach admin/redact@1.0.0 --route chat")["steps"].as_array().unwrap().len(), 1);
    let history = asked(&stack, "hook pipeline --route chat --history");
    assert_eq!(history.as_array().unwrap().len(), 3);
    let back = asked(&stack, "hook rollback --route chat");
    assert_eq!((&back["number"], &back["restored"]), (&json!(4), &json!(2)));
    assert_eq!(asked(&stack, "hook rollback --route chat 1")["steps"].as_array().unwrap().len(), 1);
    asked(&stack, r#"hook attach admin/redact --hook-config {"words":["x"]}"#);
    let all = asked(&stack, "hook pipeline --all");
    let targets: Vec<_> = all.as_array().unwrap().iter().map(|one| one["target"].as_str().unwrap()).collect();
    assert_eq!(targets, ["chat", "admin"]);
    asked(&stack, "hook detach admin/redact");

    let set = asked(&stack, "hook variables --set tone=friendly --set company=Souk --let-read admin");
    assert_eq!((&set["variables"]["tone"], &set["log_readers"]), (&json!("friendly"), &json!(["admin"])));
    let set = asked(&stack, "hook variables --set tone= --stop-reading admin");
    assert_eq!((&set["variables"], &set["log_readers"]), (&json!({ "company": "Souk" }), &json!([])));
    assert_eq!(asked(&stack, "hook logs admin/redact"), json!([]));
    let table = stack.souk(&["hook", "pipeline", "--route", "chat"]);
    assert!(table.contains("admin/redact") && table.contains("callable"), "{table}");
}

#[test]
fn what_is_no_component_is_refused_with_what_to_do() {
    let stack = Stack::start();
    let file = stack.data_dir().join("not.wasm");
    std::fs::write(&file, b"\0asm\x01\0\0\0").unwrap();
    let output = stack.souk_output(&["hook", "publish", file.to_str().unwrap(), "admin/not@1.0.0"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("core module") && told.contains("souk hook build"), "{told}");
}

#[test]
fn an_installation_begins_with_hooks_for_all() {
    let stack = Stack::start_with(&[("SOUK_REGISTRY__HOOKS__INSTALL", "true")]);
    let began = Instant::now();
    loop {
        let listed = asked(&stack, "hook list");
        let names: Vec<_> =
            listed.as_array().unwrap().iter().filter(|hook| hook["latest_version"].is_string()).collect();
        if names.iter().any(|hook| hook["id"] == "admin/pii-mask" && hook["visibility"] == "public") {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{listed}\n{}", stack.log());
        std::thread::sleep(Duration::from_millis(200));
    }
}
