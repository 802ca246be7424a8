//! What gateways say of hooks, for their owners.

use reqwest::StatusCode;
use serde_json::{Value, json};
use souk_protocol::hooks::{HookLine, HookTold, HookUse, Part};
use souk_protocol::{HookVersionId, RequestId, TenantId};

use super::manager;
use crate::services::{service, with_token};
use crate::support::{Stack, User, body, problem};

async fn version_id(stack: &Stack) -> HookVersionId {
    let db = stack.database().await;
    let query = sea_orm::Statement::from_string(
        sea_orm::ConnectionTrait::get_database_backend(&db),
        "SELECT id FROM hook_versions ORDER BY id",
    );
    let row = sea_orm::ConnectionTrait::query_one_raw(&db, query).await.unwrap().unwrap();
    HookVersionId::from_stored(row.try_get::<String>("", "id").unwrap())
}

async fn published() -> (Stack, User, HookVersionId) {
    let stack = Stack::start_with(|config| config.settings.hooks.lines_kept = 5).await;
    let acme = stack.tenant("acme").await;
    acme.make_hook("mask", "public").await;
    acme.publish_hook("acme/mask", "1.0.0", 1).await;
    let id = version_id(&stack).await;
    (stack, acme, id)
}

#[tokio::test]
async fn an_owner_reads_the_last_lines_and_failures_and_nobody_else_does() {
    let (stack, acme, version) = published().await;
    let tenant = TenantId::from_stored("ten_1");
    let line = |at_ms: u64, what: HookTold| HookLine {
        version: version.clone(),
        tenant: tenant.clone(),
        at_ms,
        request: Some(RequestId::from_stored("req_1")),
        what,
    };
    let log = |text: &str| HookTold::Log { level: "info".to_owned(), text: text.to_owned() };
    let failed = HookTold::Failed { part: Part::Answer, code: "out_of_fuel".to_owned(), detail: None };
    let mut lines: Vec<_> = (0..8).map(|number| line(number, log(&format!("line {number}")))).collect();
    lines.push(HookLine { request: None, ..line(8, failed) });
    lines.push(line(9, log(&"€".repeat(2000))));
    lines.push(HookLine { version: HookVersionId::from_stored("hkv_unknown"), ..line(10, log("of nobody")) });
    stack.registry.write_hook_lines(&lines).await.unwrap();
    let page = body(acme.get("/hooks/acme/mask/lines").await, StatusCode::OK).await;
    let shown = page["data"].as_array().unwrap();
    assert_eq!(shown.len(), 5, "{page}");
    assert_eq!(shown[0]["text"].as_str().unwrap().len(), 2046, "cut within its bound, in whole characters");
    assert_eq!(shown[1]["code"], "out_of_fuel");
    assert_eq!(
        (&shown[1]["part"], &shown[1]["request"], &shown[1]["text"]),
        (&json!("answer"), &Value::Null, &Value::Null)
    );
    assert_eq!((&shown[2]["text"], &shown[2]["request"]), (&json!("line 7"), &json!("req_1")));
    let failures = body(acme.get("/hooks/acme/mask/lines?failures=true").await, StatusCode::OK).await;
    assert_eq!(failures["data"].as_array().unwrap().len(), 1);
    let rival = stack.tenant("rival").await;
    problem(rival.get("/hooks/acme/mask/lines").await, StatusCode::FORBIDDEN, "not_owner").await;
}

#[tokio::test]
async fn what_a_hook_did_is_counted_with_the_rows_of_usage_once() {
    let (stack, acme, version) = published().await;
    let owner = manager(&stack, "acme").await;
    let rival = stack.principal(&stack.tenant("rival").await).await;
    let now_ms = u64::try_from(souk_protocol::wall_clock::since_epoch().as_millis()).unwrap();
    let mut record = souk_testkit::usage::request(&rival.tenant, rival.key.as_str(), now_ms, (10, 5));
    record.hooks =
        vec![HookUse { calls: 2, failures: 1, skipped: 1, fuel: 500, processor_us: 9, ..HookUse::none(version) }];
    let other = souk_protocol::RequestRecord { request: RequestId::new(), ..record.clone() };
    let mut other = other;
    other.jobs.iter_mut().for_each(|job| job.job.request = other.request.clone());
    for _ in 0..2 {
        stack.registry.write_usage(&[record.clone(), other.clone()]).await.unwrap();
    }
    let usage = body(owner.get("/hooks/acme/mask/usage?days=1").await, StatusCode::OK).await;
    let [day] = &usage["days"].as_array().unwrap()[..] else { panic!("{usage}") };
    let expected = json!({
        "day": day["day"], "version": "1.0.0", "calls": 4, "failures": 2, "skipped": 2, "refusals": 0, "fuel": 1000,
    });
    assert_eq!(day, &expected);
    assert_eq!(stack.number("SELECT count(*) AS n FROM usage_requests WHERE hooks IS NOT NULL").await, 2);
    // In the rows it is called by its name where that may be seen: the caller's tenant may not see a private hook of another.
    let of_rival = stack.key_for("rival", &["usage:read"]).await;
    let path = format!("/usage/{}", record.request);
    body(owner.patch("/hooks/acme/mask", json!({ "visibility": "private" })).await, StatusCode::OK).await;
    let row = body(of_rival.get(&path).await, StatusCode::OK).await;
    let expected = json!({
        "version": record.hooks[0].version, "name": null, "calls": 2, "failures": 1, "skipped": 1, "refusals": 0, "fuel": 500,
        "processor_us": 9,
    });
    assert_eq!(row["hooks"], json!([expected]));
    body(owner.patch("/hooks/acme/mask", json!({ "visibility": "public" })).await, StatusCode::OK).await;
    let row = body(of_rival.get(&path).await, StatusCode::OK).await;
    assert_eq!(row["hooks"][0]["name"], "acme/mask@1.0.0");
    problem(acme.get("/hooks/acme/mask/usage").await, StatusCode::FORBIDDEN, "scope_missing").await;
    problem(owner.get("/hooks/acme/mask/usage?days=0").await, StatusCode::BAD_REQUEST, "invalid_query").await;
    record.hooks = vec![record.hooks[0].clone(); 33];
    record.request = RequestId::new();
    record.jobs.iter_mut().for_each(|job| job.job.request = record.request.clone());
    assert!(stack.registry.write_usage(&[record]).await.is_err(), "more hooks than can act");
}

#[tokio::test]
async fn gateways_apart_get_components_and_tell_what_hooks_said() {
    let (stack, acme, version) = published().await;
    let (_, key) = service(&stack, "gateway-1").await;
    let gateway = with_token(&stack, &key).await;
    let shown = body(acme.get("/hooks/acme/mask/versions/1.0.0").await, StatusCode::OK).await;
    let digest = shown["digest"].as_str().unwrap();
    let component = gateway.get(&format!("/internal/hooks/{digest}/component")).await;
    assert_eq!(component.bytes().await.unwrap(), crate::components::component(1));
    for absent in [format!("/internal/hooks/{digest}/artifacts/another"), "/internal/hooks/x/component".to_owned()] {
        problem(gateway.get(&absent).await, StatusCode::NOT_FOUND, "not_found").await;
    }
    let line = json!({
        "version": version, "tenant": "ten_1", "at_ms": 1, "what": { "log": { "level": "warn", "text": "so" } },
    });
    let told = gateway.post("/internal/hooks/lines", json!({ "lines": [line] })).await;
    body(told, StatusCode::OK).await;
    let lines = body(acme.get("/hooks/acme/mask/lines").await, StatusCode::OK).await;
    assert_eq!((&lines["data"][0]["kind"], &lines["data"][0]["text"]), (&json!("warn"), &json!("so")));
    let too_many = vec![line; 201];
    let refused = gateway.post("/internal/hooks/lines", json!({ "lines": too_many })).await;
    problem(refused, StatusCode::BAD_REQUEST, "invalid_body").await;
}
