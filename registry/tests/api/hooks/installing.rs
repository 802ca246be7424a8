//! What an installation begins with.

use reqwest::StatusCode;
use serde_json::json;
use souk_registry::OperatorsHook;

use crate::components::component;
use crate::support::{Stack, body, problem};

fn hook(name: &str, version: &str, seed: u8) -> OperatorsHook {
    OperatorsHook {
        name: name.to_owned(),
        description: format!("What {name} is for."),
        version: version.parse().unwrap(),
        component: component(seed).into(),
    }
}

#[tokio::test]
async fn operators_hooks_are_there_for_all_once_and_what_was_removed_does_not_come_back() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let first = [hook("one", "1.0.0", 1), hook("two", "1.0.0", 2), hook("mine", "1.0.0", 3)];
    stack.admin.make_hook("mine", "private").await;
    assert_eq!(stack.registry.install_hooks(&first).await.unwrap(), 2, "what somebody made is left alone");
    assert_eq!(stack.registry.install_hooks(&first).await.unwrap(), 0);
    let listed = body(acme.get("/hooks?owner=admin").await, StatusCode::OK).await;
    let names: Vec<_> = listed["data"].as_array().unwrap().iter().map(|hook| hook["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["admin/one", "admin/two"]);
    // A later program brings newer ones.
    assert_eq!(stack.admin.delete("/hooks/admin/one").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(stack.admin.delete("/hooks/admin/two/versions/1.0.0").await.status(), StatusCode::NO_CONTENT);
    let later = [hook("one", "1.1.0", 4), hook("two", "1.0.0", 2), hook("two", "1.1.0", 5)];
    assert_eq!(stack.registry.install_hooks(&later).await.unwrap(), 1);
    problem(acme.get("/hooks/admin/one").await, StatusCode::NOT_FOUND, "not_found").await;
    let two = body(acme.get("/hooks/admin/two").await, StatusCode::OK).await;
    assert_eq!((&two["latest_version"], &two["visibility"]), (&json!("1.1.0"), &json!("public")));
}

#[tokio::test]
async fn of_two_registries_that_start_at_once_one_installs() {
    let stack = Stack::start().await;
    let second = Stack::start_in(stack.folder.clone(), |_| {}).await;
    let hooks = [hook("one", "1.0.0", 1), hook("two", "1.0.0", 2)];
    let (first, second) = tokio::join!(stack.registry.install_hooks(&hooks), second.registry.install_hooks(&hooks));
    assert_eq!(first.unwrap() + second.unwrap(), 2);
    assert_eq!(stack.number("SELECT count(*) AS n FROM hook_versions WHERE state = 'ready'").await, 2);
}
