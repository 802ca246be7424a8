//! What hooks of a tenant may take: said by the operator, within the ceiling, and heard by gateways at the very next request.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use souk_protocol::hooks::HookLimit;
use souk_registry::WarmCatalog;

use super::{attach, caller_hooks, manager};
use crate::support::{Stack, body, problem};

const PATH: &str = "/tenants/acme/hook-limits";

#[tokio::test]
async fn what_the_operator_says_is_shown_heard_at_once_and_taken_back() {
    let stack = Stack::start().await;
    let (acme, manager) = (stack.tenant("acme").await, manager(&stack, "acme").await);
    let warm = WarmCatalog::new(stack.registry.clone(), Duration::ZERO);
    let principal = stack.principal(&acme).await;
    let heard = async |limit: HookLimit| {
        let tree = warm.limits(&principal).await.unwrap().unwrap();
        tree.hooks.as_ref().and_then(|hooks| hooks.limits.get(limit))
    };
    let first = body(manager.get("/hook-limits").await, StatusCode::OK).await;
    assert_eq!(first["limits"].as_object().unwrap().len(), HookLimit::ALL.len());
    assert_eq!(first["limits"]["memory_mb"], json!({ "value": 32, "is_default": true, "most": 128 }));
    assert_eq!((&first["large_components"], &first["updated_at"]), (&json!(false), &Value::Null));
    assert_eq!(heard(HookLimit::MaxFuel).await, None);

    let said = json!({ "limits": { "max_fuel": 5_000, "max_running": 2 }, "large_components": true });
    let now = body(stack.admin.patch(PATH, said).await, StatusCode::OK).await;
    assert_eq!(now["limits"]["max_fuel"], json!({ "value": 5_000, "is_default": false, "most": 10_000_000_000_u64 }));
    assert_eq!(now["large_components"], true);
    assert_eq!((heard(HookLimit::MaxFuel).await, heard(HookLimit::MaxRunning).await), (Some(5_000), Some(2)));
    let shown = body(stack.admin.get("/hook-limits?tenant=acme").await, StatusCode::OK).await;
    assert_eq!(shown, now);

    // What is not named stays, null takes back, and what nothing changes leaves no entry.
    let back = body(stack.admin.patch(PATH, json!({ "limits": { "max_fuel": null } })).await, StatusCode::OK).await;
    assert_eq!(back["limits"]["max_fuel"]["is_default"], true);
    assert_eq!((&back["limits"]["max_running"]["value"], &back["large_components"]), (&json!(2), &json!(true)));
    assert_eq!((heard(HookLimit::MaxFuel).await, heard(HookLimit::MaxRunning).await), (None, Some(2)));
    let count = "SELECT count(*) AS n FROM audit_entries WHERE action = 'hook_limits.set'";
    assert_eq!(stack.number(count).await, 2);
    body(stack.admin.patch(PATH, json!({ "limits": { "max_running": 2 } })).await, StatusCode::OK).await;
    assert_eq!(stack.number(count).await, 2);
}

#[tokio::test]
async fn a_publishers_limits_come_with_its_adapter_and_a_callers_with_the_caller() {
    let stack = Stack::start().await;
    let (acme, owner) = (stack.tenant("acme").await, manager(&stack, "acme").await);
    let rival = stack.tenant("rival").await;
    acme.make_hook("mask", "private").await;
    acme.publish_hook("acme/mask", "1.0.0", 1).await;
    acme.make_adapter("sst2", "public").await;
    acme.publish("acme/sst2", "1.0.0", 1).await;
    attach(&owner, "/adapters/acme/sst2/versions/1.0.0/pipeline", &["acme/mask"]).await;
    for (tenant, fuel) in [("acme", 7_000), ("rival", 9_000)] {
        let said = json!({ "limits": { "max_fuel": fuel } });
        body(stack.admin.patch(&format!("/tenants/{tenant}/hook-limits"), said).await, StatusCode::OK).await;
    }
    let principal = stack.principal(&rival).await;
    let resolved = stack.registry.resolve(&principal, &"acme/sst2".parse().unwrap()).await.unwrap();
    assert_eq!(resolved.hooks.unwrap().limits.get(HookLimit::MaxFuel), Some(7_000));
    let own = caller_hooks(&stack, &rival).await.unwrap();
    assert!(own.is_empty(), "limits alone are no steps");
    assert_eq!(own.limits.get(HookLimit::MaxFuel), Some(9_000));
}

#[tokio::test]
async fn what_cannot_be_said_is_refused_with_every_field_its_bounds_and_what_was_given() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let manager = manager(&stack, "acme").await;
    let wrong = json!({ "limits": {
        "max_fuel": 999, "max_running": 33, "max_streams": 0, "memory_mb": 129, "processor_ms": 1.5, "max_log_lines": "9",
        "max_later": 1,
    } });
    let refused = problem(stack.admin.patch(PATH, wrong).await, StatusCode::BAD_REQUEST, "invalid_fields").await;
    let told = |field: &str| {
        let errors = refused["errors"].as_array().unwrap();
        let found = errors.iter().find(|error| error["subject"] == format!("limits.{field}"));
        found.unwrap_or_else(|| panic!("{field}: {refused}"))["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(told("max_fuel"), "a whole number from 1000 to 10000000000; given 999");
    assert_eq!(told("max_running"), "a whole number from 1 to 32; given 33");
    assert_eq!(told("max_streams"), "a whole number from 1 to 256; given 0");
    assert_eq!(told("memory_mb"), "a whole number from 1 to 128; given 129");
    assert_eq!(told("processor_ms"), "a whole number from 1 to 10000; given 1.5");
    assert_eq!(told("max_log_lines"), "a whole number from 0 to 1024; given \"9\"");
    assert!(told("max_later").starts_with("there is no such limit; there are memory_mb, "));
    assert_eq!(stack.number("SELECT count(*) AS n FROM hook_limits").await, 0, "nothing of it was written");

    let good = json!({ "limits": { "max_fuel": 5_000 } });
    for user in [&acme, &manager] {
        problem(user.patch(PATH, good.clone()).await, StatusCode::FORBIDDEN, "scope_missing").await;
    }
    problem(acme.get("/hook-limits").await, StatusCode::FORBIDDEN, "scope_missing").await;
    stack.tenant("rival").await;
    problem(manager.get("/hook-limits?tenant=rival").await, StatusCode::FORBIDDEN, "scope_missing").await;
    let nobodys = stack.admin.patch("/tenants/nobody/hook-limits", good).await;
    problem(nobodys, StatusCode::NOT_FOUND, "not_found").await;
}
