//! Who sees and attaches whose hooks, and what a gateway hears of it.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use souk_protocol::hooks::{HookRoute, OnFailure, Part, Share, Standing};
use souk_registry::WarmCatalog;

use super::{acting, attach, caller_hooks, manager};
use crate::support::{Stack, body, problem};

#[tokio::test]
async fn a_hook_is_seen_and_attached_by_its_owner_by_whom_it_is_shared_with_and_by_all() {
    let stack = Stack::start().await;
    let (acme, owner) = (stack.tenant("acme").await, manager(&stack, "acme").await);
    let rival = manager(&stack, {
        stack.tenant("rival").await;
        "rival"
    })
    .await;
    for (name, seed) in [("private", 1), ("shared", 2), ("public", 3)] {
        acme.make_hook(name, name).await;
        acme.publish_hook(&format!("acme/{name}"), "1.0.0", seed).await;
    }
    let listed = async |path: &str| -> Vec<Value> {
        let page = body(rival.get(path).await, StatusCode::OK).await;
        page["data"].as_array().unwrap().iter().map(|hook| hook["id"].clone()).collect()
    };
    assert_eq!(listed("/hooks").await, ["acme/public"]);
    let step = |name: &str| json!({ "steps": [{ "hook": format!("acme/{name}"), "config": { "words": ["x"] } }] });
    for name in ["private", "shared"] {
        let refused = rival.put("/pipelines/tenant/rival", step(name)).await;
        let absent = rival.put("/pipelines/tenant/rival", step("absent")).await;
        let refused = problem(refused, StatusCode::NOT_FOUND, "not_found").await["detail"].to_string();
        let absent = problem(absent, StatusCode::NOT_FOUND, "not_found").await["detail"].to_string();
        assert_eq!(refused.replace(name, "absent"), absent, "what is hidden looks like what is not there");
        problem(rival.get(&format!("/hooks/acme/{name}")).await, StatusCode::NOT_FOUND, "not_found").await;
    }
    let grant = "/hooks/acme/shared/grants/rival";
    assert_eq!(body(owner.put(grant, json!({})).await, StatusCode::OK).await["tenant"], "rival");
    assert_eq!(listed("/hooks").await, ["acme/public", "acme/shared"]);
    attach(&rival, "/pipelines/tenant/rival", &["acme/shared", "acme/public"]).await;
    let standing = async || {
        acting(&stack, &rival).await.into_iter().map(|(hook, _, standing)| (hook, standing)).collect::<Vec<_>>()
    };
    let (shared, public) = ("acme/shared".to_owned(), "acme/public".to_owned());
    assert_eq!(standing().await, [(shared.clone(), Standing::Callable), (public.clone(), Standing::Callable)]);
    // What is attached fails once its owner has taken it back.
    assert_eq!(owner.delete(grant).await.status(), StatusCode::NO_CONTENT);
    let hidden = owner.patch("/hooks/acme/public", json!({ "visibility": "private" })).await;
    body(hidden, StatusCode::OK).await;
    assert_eq!(standing().await, [(shared, Standing::NotGranted), (public, Standing::NotGranted)]);
    let shown = body(rival.get("/pipelines/tenant/rival").await, StatusCode::OK).await;
    assert_eq!(shown["steps"][0]["standing"], "not_granted");
    problem(rival.patch("/hooks/acme/public", json!({})).await, StatusCode::NOT_FOUND, "not_found").await;
    problem(
        owner.patch("/hooks/acme/public", json!({ "visibility": "gated" })).await,
        StatusCode::BAD_REQUEST,
        "invalid_fields",
    )
    .await;
}

#[tokio::test]
async fn a_callers_steps_are_those_of_its_tenant_its_key_and_the_route_and_its_publishers_come_with_the_adapter() {
    let stack = Stack::start().await;
    let (acme, manager) = (stack.tenant("acme").await, manager(&stack, "acme").await);
    for (name, seed) in [("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
        acme.make_hook(name, "private").await;
        acme.publish_hook(&format!("acme/{name}"), "1.0.0", seed).await;
    }
    acme.make_adapter("sst2", "public").await;
    acme.publish("acme/sst2", "1.0.0", 1).await;
    let key = stack.principal(&acme).await.key;
    attach(&manager, "/pipelines/tenant/acme", &["acme/a"]).await;
    attach(&manager, &format!("/pipelines/key/{key}"), &["acme/b"]).await;
    attach(&manager, "/pipelines/route/chat", &["acme/c"]).await;
    let variables = json!({ "variables": { "tone": "friendly" } });
    body(manager.put("/hook-settings", variables).await, StatusCode::OK).await;
    attach(&manager, "/adapters/acme/sst2/versions/1.0.0/pipeline", &["acme/d"]).await;

    let names = acting(&stack, &acme).await.into_iter().map(|(hook, ..)| hook).collect::<Vec<_>>();
    assert_eq!(names, ["acme/a", "acme/b", "acme/c"]);
    let hooks = caller_hooks(&stack, &acme).await.unwrap();
    assert_eq!(hooks.steps(HookRoute::Completions).count(), 2);
    assert_eq!(hooks.variables["tone"], "friendly");
    let step = &hooks.of_tenant[0];
    assert_eq!((&*step.config, step.on_failure, step.share), (r#"{"words":["x"]}"#, OnFailure::FailClosed, Share::ALL));
    assert_eq!(step.parts, Part::ALL.into());
    assert_eq!(step.owner, stack.principal(&acme).await.tenant);

    // Whoever calls the adapter gets what its publisher attached, with the publisher's variables, and nothing of its callers' sort.
    let rival = stack.tenant("rival").await;
    assert_eq!(caller_hooks(&stack, &rival).await, None);
    let principal = stack.principal(&rival).await;
    let resolved = stack.registry.resolve(&principal, &"acme/sst2".parse().unwrap()).await.unwrap();
    let attached = resolved.hooks.unwrap();
    assert_eq!(attached.steps[0].hook.to_string(), "acme/d");
    assert_eq!((&attached.tenant, &*attached.variables["tone"]), (&stack.principal(&acme).await.tenant, "friendly"));
    // The publisher's pipeline is the publisher's to see.
    let others = rival.get("/adapters/acme/sst2/versions/1.0.0/pipeline").await;
    problem(others, StatusCode::FORBIDDEN, "not_owner").await;
    let all = body(manager.get("/pipelines").await, StatusCode::OK).await;
    let targets: Vec<_> = all["data"].as_array().unwrap().iter().map(|one| one["target"].as_str().unwrap()).collect();
    assert_eq!(targets, [key.as_str(), "chat", "acme", "acme/sst2@1.0.0"]);
}

#[tokio::test]
async fn a_change_counts_at_the_very_next_request_and_is_rolled_back() {
    let stack = Stack::start().await;
    let (acme, manager) = (stack.tenant("acme").await, manager(&stack, "acme").await);
    acme.make_hook("mask", "private").await;
    for (version, seed) in [("1.0.0", 1), ("2.0.0", 2)] {
        acme.publish_hook("acme/mask", version, seed).await;
    }
    let warm = WarmCatalog::new(stack.registry.clone(), Duration::ZERO);
    let principal = stack.principal(&acme).await;
    let acts = async || -> Vec<String> {
        let tree = warm.limits(&principal).await.unwrap().unwrap();
        let steps = tree
            .hooks
            .as_ref()
            .map(|hooks| hooks.steps(HookRoute::Chat).map(|step| step.version.to_string()).collect());
        steps.unwrap_or_default()
    };
    let path = "/pipelines/tenant/acme";
    assert_eq!(acts().await, Vec::<String>::new());
    let none = body(manager.get(path).await, StatusCode::OK).await;
    assert_eq!((&none["number"], &none["steps"], &none["made_at"]), (&json!(0), &json!([]), &Value::Null));
    attach(&manager, path, &["acme/mask@1.0.0"]).await;
    assert_eq!(acts().await, ["1.0.0"]);
    assert_eq!(attach(&manager, path, &["acme/mask@1.0.0"]).await["number"], 1, "nothing changed");
    attach(&manager, path, &["acme/mask@2.0.0"]).await;
    assert_eq!(acts().await, ["2.0.0"]);
    let back = manager.post(&format!("{path}/roll-back"), json!({ "number": 1 })).await;
    let back = body(back, StatusCode::OK).await;
    assert_eq!((&back["number"], &back["restored"]), (&json!(3), &json!(1)));
    assert_eq!(acts().await, ["1.0.0"]);
    assert_eq!(body(manager.put(path, json!({ "steps": [] })).await, StatusCode::OK).await["number"], 4);
    assert_eq!(acts().await, Vec::<String>::new());
    let history = body(manager.get(&format!("{path}/history?limit=3")).await, StatusCode::OK).await;
    let numbers: Vec<_> =
        history["data"].as_array().unwrap().iter().map(|one| one["number"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [4, 3, 2]);
    let next = format!("{path}/history?limit=3&cursor={}", history["next_cursor"].as_str().unwrap());
    assert_eq!(body(manager.get(&next).await, StatusCode::OK).await["data"][0]["number"], 1);
    let never = manager.post(&format!("{path}/roll-back"), json!({ "number": 9 })).await;
    problem(never, StatusCode::NOT_FOUND, "not_found").await;
}

#[tokio::test]
async fn what_acts_on_a_key_acts_on_the_one_that_takes_its_place() {
    let stack = Stack::start().await;
    let (acme, manager) = (stack.tenant("acme").await, manager(&stack, "acme").await);
    acme.make_hook("mask", "private").await;
    acme.publish_hook("acme/mask", "1.0.0", 1).await;
    let made = acme.post("/keys", json!({ "name": "k", "scopes": ["inference"] })).await;
    let made = body(made, StatusCode::CREATED).await;
    let id = made["id"].as_str().unwrap();
    attach(&manager, &format!("/pipelines/key/{id}"), &["acme/mask"]).await;
    let rotated = body(acme.post(&format!("/keys/{id}/rotate"), json!({})).await, StatusCode::CREATED).await;
    for secret in [&made["secret"], &rotated["secret"]] {
        let user = stack.user(secret.as_str().unwrap());
        assert_eq!(acting(&stack, &user).await.len(), 1);
    }
    let path = format!("/pipelines/key/{}", rotated["id"].as_str().unwrap());
    assert_eq!(body(manager.get(&path).await, StatusCode::OK).await["number"], 1);
}

#[tokio::test]
async fn a_step_that_does_not_fit_is_refused_with_every_place() {
    let stack = Stack::start().await;
    let (acme, manager) = (stack.tenant("acme").await, manager(&stack, "acme").await);
    acme.make_hook("mask", "private").await;
    acme.publish_hook("acme/mask", "1.0.0", 1).await;
    let set = async |steps: Value| manager.put("/pipelines/tenant/acme", json!({ "steps": steps })).await;
    let good = || json!({ "hook": "acme/mask", "config": { "words": ["x"] } });
    let mut wrong = [good(), good(), good(), good()];
    wrong[0]["config"] = json!({ "words": [1], "other": true });
    wrong[1]["config"] = json!([]);
    wrong[2]["share"] = json!({ "from": 10, "below": 10 });
    wrong[3]["hook"] = json!("acme/mask:prod");
    let refused = problem(set(json!(wrong)).await, StatusCode::BAD_REQUEST, "invalid_fields").await;
    let places: Vec<_> =
        refused["errors"].as_array().unwrap().iter().map(|error| error["subject"].as_str().unwrap()).collect();
    let expected =
        ["steps[0].config.words[0]", "steps[0].config.other", "steps[1].config", "steps[2].share", "steps[3].hook"];
    assert_eq!(places, expected);
    let nine = vec![good(); 9];
    let refused = problem(set(json!(nine)).await, StatusCode::BAD_REQUEST, "invalid_fields").await;
    assert_eq!(refused["errors"][0]["subject"], "steps");
    problem(set(json!([{ "hook": "acme/mask@9.0.0" }])).await, StatusCode::NOT_FOUND, "not_found").await;
    problem(set(json!([{ "hook": "acme/mask", "configs": {} }])).await, StatusCode::BAD_REQUEST, "invalid_body").await;
    for (at, target) in [("tenant", "rival"), ("key", "none"), ("route", "embeddings"), ("team", "x")] {
        let answer = manager.put(&format!("/pipelines/{at}/{target}"), json!({ "steps": [] })).await;
        problem(answer, StatusCode::NOT_FOUND, "not_found").await;
    }
    // Nobody reaches another tenant's keys.
    let rival = super::manager(&stack, {
        stack.tenant("rival").await;
        "rival"
    })
    .await;
    let key = stack.principal(&acme).await.key;
    problem(rival.get(&format!("/pipelines/key/{key}")).await, StatusCode::NOT_FOUND, "not_found").await;
    // Who publishes may not decide on all requests of the tenant.
    problem(acme.put("/pipelines/tenant/acme", json!({ "steps": [] })).await, StatusCode::FORBIDDEN, "scope_missing")
        .await;
}

#[tokio::test]
async fn settings_are_bounded_and_readers_are_named() {
    let stack = Stack::start().await;
    stack.tenant("partner").await;
    let (acme, manager) = (stack.tenant("acme").await, manager(&stack, "acme").await);
    let set = async |settings: Value| manager.put("/hook-settings", settings).await;
    for (wrong, place) in [
        (json!({ "variables": { "a b": "x" } }), "variables.a b"),
        (json!({ "variables": { "long": "x".repeat(5000) } }), "variables.long"),
    ] {
        let refused = problem(set(wrong).await, StatusCode::BAD_REQUEST, "invalid_fields").await;
        assert_eq!(refused["errors"][0]["subject"], place);
    }
    problem(set(json!({ "log_readers": ["nobody"] })).await, StatusCode::BAD_REQUEST, "invalid_fields").await;
    let now = body(set(json!({ "log_readers": ["partner"] })).await, StatusCode::OK).await;
    assert_eq!((&now["log_readers"], &now["variables"]), (&json!(["partner"]), &json!({})));
    let hooks = caller_hooks(&stack, &acme).await.unwrap();
    assert!(hooks.is_empty() && hooks.log_readers.len() == 1, "who reads is known without any steps of one's own");
    problem(acme.get("/hook-settings").await, StatusCode::FORBIDDEN, "scope_missing").await;
}
