//! What is kept and for how long; all that is a tenant's, and its end.

use std::time::Duration;

use reqwest::StatusCode;
use sea_orm::{ConnectionTrait as _, DatabaseBackend, FromQueryResult as _, JsonValue, Statement};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use souk_registry::{AuditVerifier, HeadLine, RegistryConfig};

use crate::browser::{Browser, invite};
use crate::support::{AdapterFiles, Stack, User, body, in_haste, problem, wait_until};

/// Stands in every text of a tenant that a person writes.
const WRITTEN: &str = "anna.muster@example.org";

async fn heads(user: &User) -> Vec<HeadLine> {
    let page = body(user.get("/audit/heads?limit=100").await, StatusCode::OK).await;
    page["data"].as_array().unwrap().iter().map(|head| serde_json::from_value(head.clone()).unwrap()).collect()
}

#[tokio::test]
async fn old_entries_go_up_to_a_published_head_and_the_rest_is_verified_from_there_on() {
    let stack = Stack::start_with(|config| {
        in_haste(config);
        config.settings.publish_heads_every = Duration::from_millis(50);
        config.settings.audit_kept = Some(Duration::from_millis(1));
    })
    .await;
    let acme = stack.tenant("acme").await;
    let auditor = stack.key_for("acme", &["audit:read"]).await;
    for number in 0..4 {
        acme.make_adapter(&format!("a{number}"), "private").await;
    }
    let of_acme = "FROM audit_entries WHERE tenant_id = (SELECT id FROM tenants WHERE name = 'acme')";
    // All that was published is old by then.
    wait_until("old entries are gone", async || stack.number(&format!("SELECT count(*) AS n {of_acme}")).await == 0)
        .await;
    acme.make_adapter("late", "private").await;
    let export = auditor.get("/audit/export").await.text().await.unwrap();
    let published = heads(&auditor).await;
    let mut verifier = AuditVerifier::new(published.clone());
    export.split_inclusive('\n').for_each(|line| verifier.line(line.as_bytes()).unwrap());
    let verified = verifier.finish().unwrap();
    assert!(verified.first >= 7 && verified.num_heads >= 1 && verified.last == 8, "{verified:?}");
    assert!(!published.is_empty(), "heads stay");
    // The chain goes on where it was.
    let page = body(auditor.get("/audit").await, StatusCode::OK).await;
    assert!(page["data"].as_array().unwrap().len() <= 2);
}

#[tokio::test]
async fn events_and_what_deleted_webhooks_have_left_go_in_pieces() {
    let quietly = |config: &mut RegistryConfig| {
        in_haste(config);
        config.settings.webhooks.look_every = Duration::from_secs(3600);
    };
    let stack = Stack::start_with(quietly).await;
    let acme = stack.tenant("acme").await;
    let manager = stack.key_for("acme", &["tenant:manage"]).await;
    let mut hooks = Vec::new();
    for _ in 0..2 {
        let made = manager.post("/webhooks", json!({ "url": "https://hooks.invalid/" })).await;
        hooks.push(body(made, StatusCode::CREATED).await["id"].as_str().unwrap().to_owned());
    }
    acme.make_adapter("sst2", "private").await;
    acme.publish("acme/sst2", "1.0.0", 1).await;
    acme.publish("acme/sst2", "2.0.0", 2).await;
    let count = async |table: &str| stack.number(&format!("SELECT count(*) AS n FROM {table}")).await;
    assert_eq!((count("outbox").await, count("webhook_deliveries").await), (2, 4));
    let db = stack.database().await;
    db.execute_unprepared("UPDATE outbox SET emitted_at_ms = 1 WHERE subject = 'acme/sst2@1.0.0'").await.unwrap();
    wait_until("the old event is gone", async || count("outbox").await == 1).await;
    wait_until("with its deliveries", async || count("webhook_deliveries").await == 2).await;
    assert_eq!(manager.delete(&format!("/webhooks/{}", hooks[0])).await.status(), StatusCode::NO_CONTENT);
    wait_until("the deleted webhook is gone", async || count("webhook_endpoints").await == 1).await;
    assert_eq!((count("outbox").await, count("webhook_deliveries").await), (1, 1));
}

/// A tenant with something in every table, in which [`WRITTEN`] stands wherever a person writes.
async fn furnished(stack: &Stack, name: &str, seed: u8) -> (User, User) {
    let user = stack.tenant(name).await;
    let manager = stack.key_for(name, &["tenant:manage", "audit:read", "keys:manage"]).await;
    let key = json!({ "name": WRITTEN, "scopes": ["keys:manage"] });
    let once = user.request(reqwest::Method::POST, "/keys").header("idempotency-key", WRITTEN).json(&key);
    assert_eq!(once.send().await.unwrap().status(), StatusCode::CREATED);
    let hook = json!({ "url": format!("https://hooks.invalid/{WRITTEN}"), "description": WRITTEN });
    assert_eq!(manager.post("/webhooks", hook).await.status(), StatusCode::CREATED);
    let adapter = json!({ "name": "sst2", "description": WRITTEN });
    assert_eq!(user.post("/adapters", adapter).await.status(), StatusCode::CREATED);
    let files = AdapterFiles::tiny(seed);
    let form = files.form("1.0.0").text("left_out", json!([format!("{WRITTEN}.bin")]).to_string());
    let request = user.request(reqwest::Method::POST, &format!("/adapters/{name}/sst2/versions")).multipart(form);
    body(request.send().await.unwrap(), StatusCode::CREATED).await;
    user.publish(&format!("{name}/sst2"), "2.0.0", seed + 1).await;
    let tag = user.put(&format!("/adapters/{name}/sst2/tags/prod"), json!({ "version": "1.0.0" })).await;
    assert_eq!(tag.status(), StatusCode::OK);
    (user, manager)
}

fn quietly(config: &mut RegistryConfig) {
    in_haste(config);
    config.settings.webhooks.look_every = Duration::from_secs(3600);
}

#[tokio::test]
async fn an_export_has_all_that_is_a_tenants_and_no_secret_and_nothing_of_others() {
    let stack = Stack::start_with(quietly).await;
    let (acme, manager) = furnished(&stack, "acme", 1).await;
    furnished(&stack, "rival", 5).await;
    problem(acme.get("/export").await, StatusCode::FORBIDDEN, "scope_missing").await;
    problem(manager.get("/export?tenant=rival").await, StatusCode::FORBIDDEN, "scope_missing").await;
    let export = manager.get("/export").await.text().await.unwrap();
    let lines: Vec<Value> = export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["souk_export"], &lines[0]["tenant"]), (&json!(1), &json!("acme")));
    let (end, rows) = (lines.last().unwrap(), &lines[1..lines.len() - 1]);
    assert_eq!(end["end"]["rows"], json!(rows.len()));
    let before_end = &export[..export.trim_end().rfind('\n').unwrap() + 1];
    let digest: String = Sha256::digest(before_end).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(end["end"]["digest"], json!(format!("sha256:{digest}")));
    for table in [
        "tenants",
        "api_keys",
        "adapters",
        "versions",
        "version_files",
        "tags",
        "webhook_endpoints",
        "webhook_deliveries",
        "outbox",
        "audit_entries",
        "audit_heads",
        "idempotent_requests",
    ] {
        assert!(rows.iter().any(|row| row["table"] == table), "{table}");
    }
    for secret in ["secret_hash", "sealed", "whsec_", &acme.key, &manager.key] {
        assert!(!export.contains(secret), "{secret}");
    }
    assert!(!export.contains("rival"));
    // Files are fetched where it says, and are what it says.
    let mut num_files = 0;
    for file in rows.iter().filter(|row| row["table"] == "version_files") {
        let path = file["row"]["download"].as_str().unwrap().strip_prefix("/registry/v1").unwrap();
        let bytes = acme.get(path).await.bytes().await.unwrap();
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(file["row"]["digest"], json!(format!("sha256:{digest}")), "{path}");
        num_files += 1;
    }
    assert_eq!(num_files, 6);
    assert!(stack.admin.get("/export?tenant=rival").await.text().await.unwrap().contains("rival/sst2"));
}

/// Every table in which some text column has `text`.
async fn tables_with(stack: &Stack, text: &str) -> Vec<String> {
    let db = stack.database().await;
    let backend = db.get_database_backend();
    let query = match backend {
        DatabaseBackend::Postgres => "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'",
        _ => "SELECT name FROM sqlite_master WHERE type = 'table'",
    };
    let names = JsonValue::find_by_statement(Statement::from_string(backend, query)).all(&db).await.unwrap();
    let mut found = Vec::new();
    for name in names.iter().map(|row| row["name"].as_str().unwrap()) {
        let query = Statement::from_string(backend, format!("SELECT * FROM {name}"));
        let rows = JsonValue::find_by_statement(query).all(&db).await.unwrap();
        if rows.iter().any(|row| row.to_string().contains(text)) {
            found.push(name.to_owned());
        }
    }
    found.sort_unstable();
    found
}

#[tokio::test]
async fn an_erased_tenant_leaves_ids_and_names_that_are_never_given_again_and_nothing_that_a_person_wrote() {
    let stack = Stack::start_with(quietly).await;
    let (acme, manager) = furnished(&stack, "acme", 1).await;
    let objects = stack.num_objects();
    let written = tables_with(&stack, WRITTEN).await;
    for table in ["adapters", "api_keys", "idempotent_requests", "versions", "webhook_endpoints"] {
        assert!(written.iter().any(|name| name == table), "{table} is tried: {written:?}");
    }
    assert!(!written.iter().any(|name| name.starts_with("audit")), "{written:?}");

    // Asked for, and taken back.
    problem(manager.post("/tenants/acme/erasure", json!({})).await, StatusCode::FORBIDDEN, "scope_missing").await;
    let past = json!({ "due_at": "2020-01-01T00:00:00Z" });
    problem(stack.admin.post("/tenants/acme/erasure", past).await, StatusCode::BAD_REQUEST, "invalid_fields").await;
    let own = stack.admin.post("/tenants/admin/erasure", json!({})).await;
    problem(own, StatusCode::CONFLICT, "operators_tenant").await;
    let asked = body(stack.admin.post("/tenants/acme/erasure", json!({})).await, StatusCode::OK).await;
    assert!(asked["done_at"].is_null());
    assert_eq!(acme.get("/adapters").await.status(), StatusCode::OK, "nothing is done before it is due");
    assert_eq!(stack.admin.delete("/tenants/acme/erasure").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(stack.number("SELECT count(*) AS n FROM tenant_erasures").await, 0);

    // Asked for, and due. An upload is under way and a key is being used.
    assert_eq!(stack.admin.post("/tenants/acme/erasure", json!({})).await.status(), StatusCode::OK);
    let (form, _never) = crate::support::halting_form("3.0.0", 9);
    let upload = acme.request(reqwest::Method::POST, "/adapters/acme/sst2/versions").multipart(form);
    let upload = tokio::spawn(upload.send());
    wait_until("it has begun", async || crate::faults::num_uploads(&stack).await == 1).await;
    let owner = Browser::of_member(&stack, "acme", "owner").await;
    let invitation = invite(&stack, "acme", "late@example.com", "owner").await;
    let db = stack.database().await;
    db.execute_unprepared("UPDATE tenant_erasures SET due_at_ms = 1").await.unwrap();
    wait_until("it is done", async || {
        stack.number("SELECT count(*) AS n FROM tenant_erasures WHERE done_at_ms IS NOT NULL").await == 1
    })
    .await;
    upload.abort();
    problem(acme.get("/adapters").await, StatusCode::UNAUTHORIZED, "key_revoked").await;
    assert!(!owner.is_signed_in().await, "nobody acts for it");
    assert_eq!(Browser::new(&stack).open(&invitation).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(tables_with(&stack, "late@example.com").await, Vec::<String>::new());
    for (path, late) in [
        ("/keys", json!({ "tenant": "acme", "name": "k", "scopes": ["inference"] })),
        ("/invitations", json!({ "tenant": "acme", "email": "a@example.com", "role": "owner" })),
    ] {
        problem(stack.admin.post(path, late).await, StatusCode::CONFLICT, "tenant_erased").await;
    }
    assert_eq!(tables_with(&stack, WRITTEN).await, Vec::<String>::new());
    wait_until("its objects are gone", async || stack.num_objects() == 0).await;
    assert!(objects > 0);
    // What stays.
    let entries = "FROM audit_entries WHERE tenant_id = (SELECT id FROM tenants WHERE name = 'acme')";
    assert_eq!(stack.number(&format!("SELECT count(*) AS n {entries} AND action = 'tenant.erased'")).await, 1);
    let again = stack.admin.post("/tenants", json!({ "name": "acme" })).await;
    problem(again, StatusCode::CONFLICT, "already_exists").await;
    let names = tables_with(&stack, "sst2").await;
    assert_eq!(names, ["adapters", "audit_entries", "withdrawals"], "never given again; what gateways hear, for a day");
    let export = stack.admin.get("/audit/export?tenant=acme").await.text().await.unwrap();
    let mut verifier = AuditVerifier::new(Vec::new());
    export.split_inclusive('\n').for_each(|line| verifier.line(line.as_bytes()).unwrap());
    verifier.finish().unwrap();
    // It is not done twice.
    let done = body(stack.admin.post("/tenants/acme/erasure", json!({})).await, StatusCode::OK).await;
    assert!(done["done_at"].is_string());
}

#[tokio::test]
async fn an_erasure_takes_nothing_of_others() {
    let stack = Stack::start_with(quietly).await;
    furnished(&stack, "acme", 1).await;
    let (rival, manager) = furnished(&stack, "rival", 5).await;
    let before = without_the_moment(&manager.get("/export").await.text().await.unwrap());
    assert_eq!(stack.admin.post("/tenants/acme/erasure", json!({})).await.status(), StatusCode::OK);
    let db = stack.database().await;
    db.execute_unprepared("UPDATE tenant_erasures SET due_at_ms = 1").await.unwrap();
    wait_until("it is done", async || {
        stack.number("SELECT count(*) AS n FROM tenant_erasures WHERE done_at_ms IS NOT NULL").await == 1
    })
    .await;
    assert_eq!(without_the_moment(&manager.get("/export").await.text().await.unwrap()), before);
    let weights = rival.get("/adapters/rival/sst2/versions/1.0.0/files/adapter_model.safetensors").await;
    assert_eq!(weights.bytes().await.unwrap(), AdapterFiles::tiny(5).weights_bytes());
}

/// The rows of an export, but for when keys were used last.
fn without_the_moment(export: &str) -> Vec<Value> {
    let rows = export.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.filter(|line| line["table"].is_string())
        .map(|mut line| {
            line["row"].as_object_mut().unwrap().remove("last_used_at_ms");
            line
        })
        .collect()
}
