//! From a component to a version, and what becomes of it.

use reqwest::StatusCode;
use serde_json::json;
use souk_protocol::Digest;
use souk_registry::Withdrawn;

use super::{acting, attach, manager};
use crate::components::component;
use crate::support::{Stack, body, in_haste, problem, wait_until};

#[tokio::test]
async fn a_version_is_published_with_what_was_found_and_downloaded_as_it_was_sent() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let made = acme.make_hook("mask", "private").await;
    assert_eq!((&made["id"], &made["latest_version"]), (&json!("acme/mask"), &json!(null)));
    let version = acme.publish_hook("acme/mask", "1.0.0", 1).await;
    assert_eq!(
        (&version["state"], &version["digest"]),
        (&json!("ready"), &json!(Digest::of(&component(1)).to_string()))
    );
    let report = &version["report"];
    assert_eq!(report["exports"], json!(["prompt", "answer", "stream", "describe"]), "{report}");
    assert_eq!(report["size_bytes"], component(1).len());
    assert_eq!(report["description"]["config_schema"]["required"], json!(["words"]));
    assert!(
        report["self_test"]["fuel"].as_u64().unwrap() > 0 && report["self_test"]["compiled_bytes"].as_u64() > Some(0)
    );
    acme.publish_hook("acme/mask", "2.0.0-rc.1", 2).await;
    acme.publish_hook("acme/mask", "1.1.0", 3).await;
    let hook = body(acme.get("/hooks/acme/mask").await, StatusCode::OK).await;
    assert_eq!(hook["latest_version"], "1.1.0");
    let listed = body(acme.get("/hooks/acme/mask/versions?limit=2").await, StatusCode::OK).await;
    let numbers: Vec<_> =
        listed["data"].as_array().unwrap().iter().map(|version| version["version"].as_str().unwrap()).collect();
    assert_eq!((numbers, listed["next_cursor"].is_string()), (vec!["2.0.0-rc.1", "1.1.0"], true));
    let bytes = acme.get("/hooks/acme/mask/versions/1.0.0/component").await;
    assert_eq!(bytes.headers()["content-type"], "application/octet-stream");
    assert_eq!(bytes.bytes().await.unwrap(), component(1));
    for (hook, version, code) in
        [("mask", "1.0.0", "already_exists"), ("mask", "1.2", "invalid_version"), ("none", "1.0.0", "not_found")]
    {
        let answer = acme.upload_hook(&format!("acme/{hook}"), version, component(9)).await;
        let status = answer.status();
        problem(answer, status, code).await;
    }
}

#[tokio::test]
async fn what_is_no_hook_is_rejected_with_what_to_do_and_leaves_nothing() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    acme.make_hook("mask", "private").await;
    let core_module = b"\0asm\x01\0\0\0".to_vec();
    for (component, code) in [
        (Vec::new(), "empty"),
        (b"\x7fELF".to_vec(), "machine_code"),
        (core_module, "core_module"),
        (b"(component)".to_vec(), "text"),
    ] {
        let rejected = acme.upload_hook("acme/mask", "1.0.0", component).await;
        let rejected = problem(rejected, StatusCode::UNPROCESSABLE_ENTITY, "hook_rejected").await;
        assert_eq!(
            (&rejected["errors"][0]["code"], &rejected["errors"][0]["subject"]),
            (&json!(code), &json!("component"))
        );
    }
    let too_large = acme.upload_hook("acme/mask", "1.0.0", vec![0; (4 << 20) + 1]).await;
    problem(too_large, StatusCode::PAYLOAD_TOO_LARGE, "too_large").await;
    assert_eq!(stack.num_objects(), 0);
    assert_eq!(stack.number("SELECT count(*) AS n FROM hook_versions").await, 0);
    acme.publish_hook("acme/mask", "1.0.0", 1).await;
}

#[tokio::test]
async fn large_components_are_for_whom_the_operator_names() {
    let stack = Stack::start_with(|config| _ = config.settings.hooks.large_for.insert("acme".to_owned())).await;
    for (tenant, code) in [("acme", "hook_rejected"), ("rival", "too_large"), ("named-later", "hook_rejected")] {
        let user = stack.tenant(tenant).await;
        if tenant == "named-later" {
            let path = format!("/tenants/{tenant}/hook-limits");
            body(stack.admin.patch(&path, json!({ "large_components": true })).await, StatusCode::OK).await;
        }
        user.make_hook("mask", "private").await;
        let answer = user.upload_hook(&format!("{tenant}/mask"), "1.0.0", vec![0; (4 << 20) + 1]).await;
        let status = answer.status();
        problem(answer, status, code).await;
    }
}

#[tokio::test]
async fn deleted_hooks_and_versions_leave_no_bytes_and_their_names_are_never_given_again() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    acme.make_hook("mask", "private").await;
    for (version, seed) in [("1.0.0", 1), ("2.0.0", 2), ("3.0.0", 1)] {
        acme.publish_hook("acme/mask", version, seed).await;
    }
    let stored = async || stack.number("SELECT stored_bytes AS n FROM tenants WHERE name = 'acme'").await;
    assert_eq!(stored().await, 3 * i64::try_from(component(1).len()).unwrap());
    assert_eq!(acme.delete("/hooks/acme/mask/versions/1.0.0").await.status(), StatusCode::NO_CONTENT);
    let kept = acme.get("/hooks/acme/mask/versions/3.0.0/component").await;
    assert_eq!(kept.bytes().await.unwrap(), component(1), "another version has the same component");
    let again = acme.upload_hook("acme/mask", "1.0.0", component(4)).await;
    problem(again, StatusCode::CONFLICT, "retired").await;
    assert_eq!(acme.delete("/hooks/acme/mask").await.status(), StatusCode::NO_CONTENT);
    assert_eq!((stack.num_objects(), stored().await), (0, 0));
    problem(acme.get("/hooks/acme/mask").await, StatusCode::NOT_FOUND, "not_found").await;
    let again = acme.post("/hooks", json!({ "name": "mask" })).await;
    problem(again, StatusCode::CONFLICT, "retired").await;
}

#[tokio::test]
async fn a_yanked_version_goes_on_where_it_is_attached_and_is_the_latest_no_more() {
    let stack = Stack::start().await;
    let (acme, manager) = (stack.tenant("acme").await, manager(&stack, "acme").await);
    acme.make_hook("mask", "private").await;
    for (version, seed) in [("1.0.0", 1), ("1.1.0", 2)] {
        acme.publish_hook("acme/mask", version, seed).await;
    }
    attach(&manager, "/pipelines/tenant/acme", &["acme/mask"]).await;
    let yank = "/hooks/acme/mask/versions/1.1.0/yank";
    assert_eq!(body(acme.post(yank, json!({})).await, StatusCode::OK).await["state"], "yanked");
    let steps = acting(&stack, &acme).await;
    assert_eq!((steps.len(), &*steps[0].1, steps[0].2), (1, "1.1.0", souk_protocol::hooks::Standing::Callable));
    let pipeline = attach(&manager, "/pipelines/tenant/acme", &["acme/mask"]).await;
    assert_eq!(pipeline["steps"][0]["version"], "1.0.0");
    let pipeline = attach(&manager, "/pipelines/tenant/acme", &["acme/mask@1.1.0"]).await;
    assert_eq!(pipeline["steps"][0]["version"], "1.1.0");
}

#[tokio::test]
async fn a_take_down_is_of_the_component_whoever_has_it_and_is_heard() {
    let stack = Stack::start().await;
    let (acme, rival) = (stack.tenant("acme").await, stack.tenant("rival").await);
    let manager = manager(&stack, "acme").await;
    for (user, hook) in [(&acme, "acme/one"), (&rival, "rival/two")] {
        user.make_hook(hook.split_once('/').unwrap().1, "public").await;
        user.publish_hook(hook, "1.0.0", 1).await;
    }
    attach(&manager, "/pipelines/tenant/acme", &["rival/two"]).await;
    let mut listener = stack.registry.withdrawals();
    let reason = json!({ "reason": "it keeps what it is not to keep" });
    problem(
        acme.post("/hooks/acme/one/versions/1.0.0/take-down", reason.clone()).await,
        StatusCode::FORBIDDEN,
        "scope_missing",
    )
    .await;
    let down = stack.admin.post("/hooks/acme/one/versions/1.0.0/take-down", reason).await;
    assert_eq!(body(down, StatusCode::OK).await["state"], "taken_down");
    let digest = Digest::of(&component(1));
    assert_eq!(listener.next().await, Some(Withdrawn::Version(digest)));
    assert_eq!(acting(&stack, &acme).await[0].2, souk_protocol::hooks::Standing::TakenDown);
    assert_eq!(stack.registry.hook_component(&digest).await.unwrap(), None);
    problem(rival.get("/hooks/rival/two/versions/1.0.0/component").await, StatusCode::GONE, "taken_down").await;
    for (user, hook) in [(&acme, "acme/one"), (&rival, "rival/two")] {
        let again = user.upload_hook(hook, "2.0.0", component(1)).await;
        problem(again, StatusCode::CONFLICT, "content_taken_down").await;
    }
    let attached = json!({ "steps": [{ "hook": "rival/two@1.0.0", "config": { "words": [] } }] });
    problem(manager.put("/pipelines/route/chat", attached).await, StatusCode::GONE, "taken_down").await;
    // Whoever deletes it cannot hide it.
    assert_eq!(acme.delete("/hooks/acme/one/versions/1.0.0").await.status(), StatusCode::NO_CONTENT);
    let kept = body(acme.get("/hooks/acme/one/versions/1.0.0").await, StatusCode::OK).await;
    assert_eq!(
        (&kept["state"], &kept["state_reason"]),
        (&json!("taken_down"), &json!("it keeps what it is not to keep"))
    );
}

#[tokio::test]
async fn what_a_component_was_compiled_to_is_had_for_its_engine_alone() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    acme.make_hook("mask", "private").await;
    acme.publish_hook("acme/mask", "1.0.0", 1).await;
    let digest = Digest::of(&component(1));
    let db = stack.database().await;
    let engine: String = sea_orm::ConnectionTrait::query_one_raw(
        &db,
        sea_orm::Statement::from_string(
            sea_orm::ConnectionTrait::get_database_backend(&db),
            "SELECT engine FROM hook_versions",
        ),
    )
    .await
    .unwrap()
    .unwrap()
    .try_get("", "engine")
    .unwrap();
    assert_eq!(stack.registry.hook_component(&digest).await.unwrap().unwrap(), component(1));
    assert!(stack.registry.hook_artifact(&digest, &engine).await.unwrap().is_some());
    assert_eq!(stack.registry.hook_artifact(&digest, "another").await.unwrap(), None);
    assert_eq!(stack.registry.hook_artifact(&Digest::of(b"x"), &engine).await.unwrap(), None);
}

#[tokio::test]
async fn a_number_whose_registry_is_gone_is_free_again() {
    let stack = Stack::start_with(in_haste).await;
    let acme = stack.tenant("acme").await;
    acme.make_hook("mask", "private").await;
    let db = stack.database().await;
    sea_orm::ConnectionTrait::execute_unprepared(
        &db,
        "INSERT INTO hook_versions (id, hook_id, version, state, digest, size_bytes, artifact_bytes, created_at_ms,
             state_changed_at_ms, worked_on_by, lease_expires_at_ms)
         SELECT 'hkv_dead', id, '1.0.0', 'validating', 'sha256:00', 1, 0, 0, 0, 'reg_dead', 1 FROM hooks",
    )
    .await
    .unwrap();
    wait_until("the collector sets it free", async || {
        stack.number("SELECT count(*) AS n FROM hook_versions").await == 0
    })
    .await;
    acme.publish_hook("acme/mask", "1.0.0", 1).await;
}
