//! What is kept and for how long; all that is a tenant's, and its end.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use sea_orm::{ConnectionTrait as _, DatabaseBackend, DatabaseConnection, FromQueryResult as _, JsonValue, Statement};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use souk_protocol::Digest;
use souk_protocol::hooks::{HookLine, HookTold, HookUse};
use souk_registry::{AuditVerifier, HeadLine, RegistryConfig};
use souk_testkit::usage::request;
use souk_testkit_s3::S3Server;

use crate::browser::{Browser, invite, persons_key};
use crate::login;
use crate::support::{AdapterFiles, Stack, User, begin_upload, body, in_haste, problem, s3_at, wait_until};

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

/// A registry on a bucket.
struct Field {
    stack: Stack,
    server: S3Server,
}

/// A tenant with something in each of its tables, in which [`WRITTEN`] stands wherever a person writes.
struct Furnished {
    user: User,
    /// Who manages the tenant.
    manager: User,
}

impl Field {
    async fn new() -> Self {
        let server = S3Server::start().await;
        let stack = Stack::start_with(|config| {
            in_haste(config);
            config.objects = s3_at(server.endpoint());
            config.settings.webhooks.look_every = Duration::from_secs(3600);
            config.settings.publish_heads_every = Duration::from_millis(50);
        })
        .await;
        Self { stack, server }
    }

    /// A new tenant, and a partner of its own that it asks for access, and that asks it.
    async fn furnish(&self, name: &str, seed: u8) -> Furnished {
        let user = self.stack.tenant(name).await;
        let manager = self.stack.key_for(name, &["tenant:manage", "audit:read", "keys:manage", "adapters:read"]).await;
        let furnished = Furnished { user, manager };
        self.furnish_with_settings(&furnished).await;
        self.furnish_with_versions(&furnished, name, seed).await;
        self.furnish_with_people(&furnished, name).await;
        self.furnish_with_access(name).await;
        self.furnish_with_hooks(&furnished, name, seed).await;
        self.furnish_with_usage(&furnished).await;
        let unpublished = format!(
            "SELECT count(*) AS n FROM audit_heads h JOIN tenants t ON t.id = h.tenant_id WHERE t.name = '{name}'
             AND NOT EXISTS (SELECT 1 FROM published_heads p WHERE p.tenant_id = t.id AND p.number = h.number)"
        );
        wait_until("its chain is published", async || self.stack.number(&unpublished).await == 0).await;
        furnished
    }

    async fn furnish_with_settings(&self, Furnished { user, manager }: &Furnished) {
        let key = json!({ "name": WRITTEN, "scopes": ["keys:manage"] });
        let once = user.request(Method::POST, "/keys").header("idempotency-key", WRITTEN).json(&key);
        assert_eq!(once.send().await.unwrap().status(), StatusCode::CREATED);
        let hook = json!({ "url": format!("https://hooks.invalid/{WRITTEN}"), "description": WRITTEN });
        assert_eq!(manager.post("/webhooks", hook).await.status(), StatusCode::CREATED);
        assert_eq!(manager.put("/policy", json!({ "max_key_days": 30 })).await.status(), StatusCode::OK);
        let team = body(manager.post("/teams", json!({ "name": "search" })).await, StatusCode::CREATED).await;
        let limits = json!({ "limits": { "tokens_per_day": { "value": 100 } } });
        let path = format!("/limits/team/{}", team["id"].as_str().unwrap());
        assert_eq!(manager.patch(&path, limits).await.status(), StatusCode::OK);
        let answers = json!({ "keeps_answers": true });
        assert_eq!(manager.patch("/limits/answers", answers).await.status(), StatusCode::OK);
    }

    /// An adapter with two versions, a tag, and an upload that goes on.
    async fn furnish_with_versions(&self, Furnished { user, .. }: &Furnished, name: &str, seed: u8) {
        let adapter = json!({ "name": "sst2", "description": WRITTEN });
        assert_eq!(user.post("/adapters", adapter).await.status(), StatusCode::CREATED);
        let files = AdapterFiles::tiny(seed);
        let form = files.form("1.0.0").text("left_out", json!([format!("{WRITTEN}.bin")]).to_string());
        let request = user.request(Method::POST, &format!("/adapters/{name}/sst2/versions")).multipart(form);
        body(request.send().await.unwrap(), StatusCode::CREATED).await;
        let adapter = format!("{name}/sst2");
        user.publish(&adapter, "2.0.0", seed + 1).await;
        let tag = user.put(&format!("/adapters/{adapter}/tags/prod"), json!({ "version": "1.0.0" })).await;
        assert_eq!(tag.status(), StatusCode::OK);
        let upload = begin_upload(user, &adapter, "4.0.0", &files.weights_bytes()).await;
        let (id, digest) = (upload["id"].as_str().unwrap(), Digest::of(&files.weights_bytes()));
        // As while it is completed: that takes less time than a look.
        let counts_on = format!("INSERT INTO upload_blobs (upload_id, digest) VALUES ('{id}', '{digest}')");
        self.stack.database().await.execute_unprepared(&counts_on).await.unwrap();
    }

    /// A member, somebody who is asked to become one, a link that signs in, and a program that was let have a key.
    async fn furnish_with_people(&self, Furnished { manager, .. }: &Furnished, name: &str) {
        let member = Browser::of_member(&self.stack, name, "viewer").await;
        let asked = json!({ "email": WRITTEN, "role": "viewer" });
        assert_eq!(manager.post("/invitations", asked).await.status(), StatusCode::CREATED);
        let path = format!("/members/{}/sign-in-link", member.person().await);
        assert_eq!(manager.post(&path, json!({})).await.status(), StatusCode::CREATED);
        login::allow_named(&member, WRITTEN).await;
    }

    /// A gate, a grant, and requests that were made and received.
    async fn furnish_with_access(&self, name: &str) {
        let partner = format!("{name}-partner");
        self.stack.tenant(&partner).await;
        let scopes = ["adapters:read", "adapters:write", "access:decide"];
        let (own, _) = persons_key(&self.stack, name, &scopes).await;
        let (theirs, _) = persons_key(&self.stack, &partner, &scopes).await;
        for (asker, decider, owner, step) in [(&own, &theirs, &*partner, "reject"), (&theirs, &own, name, "approve")] {
            let adapter = json!({ "name": "gated", "visibility": "gated" });
            assert_eq!(decider.post("/adapters", adapter).await.status(), StatusCode::CREATED);
            let question = json!({ "name": "purpose", "label": WRITTEN, "kind": "text", "required": true });
            // What another tenant writes on its own form is its own.
            let question =
                if owner == name { question } else { json!({ "name": "purpose", "label": "?", "kind": "text" }) };
            let path = format!("/adapters/{owner}/gated");
            let gate = decider.put(&format!("{path}/gate"), json!({ "questions": [question] })).await;
            body(gate, StatusCode::OK).await;
            let asked = json!({ "answers": { "purpose": WRITTEN } });
            let asked = body(asker.post(&format!("{path}/access-requests"), asked).await, StatusCode::CREATED).await;
            let path = format!("/access-requests/{}/{step}", asked["id"].as_str().unwrap());
            body(decider.post(&path, json!({ "reason": WRITTEN })).await, StatusCode::OK).await;
        }
        let shared = json!({ "name": "shared", "visibility": "shared" });
        assert_eq!(own.post("/adapters", shared).await.status(), StatusCode::CREATED);
        let grant = own.put(&format!("/adapters/{name}/shared/grants/{partner}"), json!({ "note": WRITTEN })).await;
        body(grant, StatusCode::OK).await;
    }

    /// A hook that was granted to somebody, is attached, did something and said something.
    async fn furnish_with_hooks(&self, Furnished { user, manager }: &Furnished, name: &str, seed: u8) {
        let hook = json!({ "name": "mask", "visibility": "shared", "description": WRITTEN });
        assert_eq!(user.post("/hooks", hook).await.status(), StatusCode::CREATED);
        user.publish_hook(&format!("{name}/mask"), "1.0.0", seed).await;
        let decider = self.stack.key_for(name, &["access:decide"]).await;
        let grant = decider.put(&format!("/hooks/{name}/mask/grants/{name}-partner"), json!({})).await;
        body(grant, StatusCode::OK).await;
        let steps = json!({ "steps": [{ "hook": format!("{name}/mask"), "config": { "words": [WRITTEN] } }] });
        body(manager.put("/pipelines/route/chat", steps).await, StatusCode::OK).await;
        let settings = json!({ "variables": { "company": WRITTEN } });
        body(manager.put("/hook-settings", settings).await, StatusCode::OK).await;
        let limits = json!({ "limits": { "max_fuel": 1_000_000 } });
        body(self.stack.admin.patch(&format!("/tenants/{name}/hook-limits"), limits).await, StatusCode::OK).await;
        let tree = self.stack.registry.limits_of_caller(&self.stack.principal(user).await).await.unwrap().unwrap();
        let version = tree.hooks.as_ref().unwrap().of_routes.values().next().unwrap()[0].id.clone();
        let tenant = self.stack.principal(user).await.tenant;
        let what = HookTold::Log { level: "info".to_owned(), text: WRITTEN.to_owned() };
        let line = HookLine { version: version.clone(), tenant: tenant.clone(), at_ms: 1, request: None, what };
        self.stack.registry.write_hook_lines(&[line]).await.unwrap();
        let mut served = request(&tenant, "key_1", 0, (0, 0));
        served.hooks = vec![HookUse { calls: 1, fuel: 1, ..HookUse::none(version) }];
        self.stack.registry.write_usage(&[served]).await.unwrap();
    }

    /// A request that was served.
    async fn furnish_with_usage(&self, Furnished { user, .. }: &Furnished) {
        let principal = self.stack.principal(user).await;
        let now_ms = u64::try_from(souk_protocol::wall_clock::since_epoch().as_millis()).unwrap();
        let mut served = request(&principal.tenant, principal.key.as_str(), now_ms, (10, 5));
        served.model = WRITTEN.to_owned();
        self.stack.registry.write_usage(&[served]).await.unwrap();
    }

    /// Files that are in the bucket, staged ones included.
    fn num_objects(&self) -> usize {
        let in_folder = |folder: &str| self.server.names(&format!("of/tests/{folder}/")).len();
        in_folder("sha256") + in_folder("staging") + self.server.num_running_uploads()
    }
}

/// Tables of which no row is a tenant's. Every other one of the schema has to be in an export of a tenant that has
/// something of everything.
const OF_NOBODY: [&str; 14] = [
    "blobs",
    "identities",
    "installation",
    "leases",
    "logins",
    "persons",
    "seaql_migrations",
    "services",
    "sessions",
    "signing_keys",
    "sqlite_sequence",
    "sqlite_stat1",
    "taken_down_content",
    "withdrawals",
];

/// Tables in which something that a person wrote is kept.
const WRITTEN_IN: [&str; 16] = [
    "access_requests",
    "adapter_gates",
    "adapter_grants",
    "adapters",
    "api_keys",
    "hook_lines",
    "hook_settings",
    "hooks",
    "idempotent_requests",
    "invitations",
    "login_codes",
    "outbox",
    "pipelines",
    "usage_requests",
    "versions",
    "webhook_endpoints",
];

/// What an erasure leaves.
pub(crate) const STAYS: [&str; 12] = [
    "adapters",
    "api_keys",
    "audit_entries",
    "audit_heads",
    "hook_versions",
    "hooks",
    "published_heads",
    "tenant_erasures",
    "tenants",
    "usage_days",
    "usage_totals",
    "versions",
];

/// The tables of which an export has rows, in order, each once.
pub(crate) fn tables_of(export: &str) -> BTreeSet<String> {
    let lines = export.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| Some(line["table"].as_str()?.to_owned())).collect()
}

/// All tables of the schema.
async fn tables(db: &DatabaseConnection) -> Vec<String> {
    let query = match db.get_database_backend() {
        DatabaseBackend::Postgres => "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'",
        _ => "SELECT name FROM sqlite_master WHERE type = 'table'",
    };
    let query = Statement::from_string(db.get_database_backend(), query);
    let names = JsonValue::find_by_statement(query).all(db).await.unwrap();
    names.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_export_has_all_that_is_a_tenants_and_no_secret_and_nothing_of_others() {
    let field = Field::new().await;
    let (stack, Furnished { user: acme, manager }) = (&field.stack, field.furnish("acme", 1).await);
    field.furnish("rival", 5).await;
    assert_eq!(stack.admin.post("/tenants/acme/erasure", json!({})).await.status(), StatusCode::OK);
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
    let of_tenants = tables(&stack.database().await).await.into_iter().filter(|table| !OF_NOBODY.contains(&&**table));
    assert_eq!(tables_of(&export), of_tenants.collect(), "furnish a tenant with a row of each table that it has");
    for secret in ["secret_hash", "sealed", "whsec_", &acme.key, &manager.key] {
        assert!(!export.contains(secret), "{secret}");
    }
    assert!(!export.contains("rival"), "{export}");
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
    let mut found = Vec::new();
    for name in tables(&db).await {
        let query = Statement::from_string(db.get_database_backend(), format!("SELECT * FROM {name}"));
        let rows = JsonValue::find_by_statement(query).all(&db).await.unwrap();
        if rows.iter().any(|row| row.to_string().contains(text)) {
            found.push(name);
        }
    }
    found.sort_unstable();
    found
}

#[tokio::test]
async fn an_erased_tenant_leaves_ids_and_names_that_are_never_given_again_and_nothing_that_a_person_wrote() {
    let field = Field::new().await;
    let (stack, Furnished { user: acme, manager }) = (&field.stack, field.furnish("acme", 1).await);
    let objects = field.num_objects();
    assert_eq!(tables_with(stack, WRITTEN).await, WRITTEN_IN);

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
    let upload = acme.request(Method::POST, "/adapters/acme/sst2/versions").multipart(form);
    let upload = tokio::spawn(upload.send());
    wait_until("it has begun", async || crate::faults::num_uploads(stack).await == 2).await;
    let owner = Browser::of_member(stack, "acme", "owner").await;
    let invitation = invite(stack, "acme", "late@example.com", "owner").await;
    let db = stack.database().await;
    db.execute_unprepared("UPDATE tenant_erasures SET due_at_ms = 1").await.unwrap();
    wait_until("it is done", async || {
        stack.number("SELECT count(*) AS n FROM tenant_erasures WHERE done_at_ms IS NOT NULL").await == 1
    })
    .await;
    upload.abort();
    problem(acme.get("/adapters").await, StatusCode::UNAUTHORIZED, "key_revoked").await;
    assert!(!owner.is_signed_in().await, "nobody acts for it");
    assert_eq!(Browser::new(stack).open(&invitation).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(tables_with(stack, "late@example.com").await, Vec::<String>::new());
    for (path, late) in [
        ("/keys", json!({ "tenant": "acme", "name": "k", "scopes": ["inference"] })),
        ("/invitations", json!({ "tenant": "acme", "email": "a@example.com", "role": "owner" })),
    ] {
        problem(stack.admin.post(path, late).await, StatusCode::CONFLICT, "tenant_erased").await;
    }
    // What it has told another tenant is that one's, for as long as events are kept.
    assert_eq!(tables_with(stack, WRITTEN).await, ["outbox"]);
    let of_others = "FROM outbox o JOIN tenants t ON t.id = o.tenant_id \
                     WHERE NOT (t.name = 'acme-partner' AND o.kind LIKE 'access.%')";
    assert_eq!(stack.number(&format!("SELECT count(*) AS n {of_others}")).await, 0);
    db.execute_unprepared("UPDATE outbox SET emitted_at_ms = 1").await.unwrap();
    wait_until("what was told is gone", async || tables_with(stack, WRITTEN).await.is_empty()).await;
    wait_until("its objects are gone", async || field.num_objects() == 0).await;
    assert!(objects > 0);
    // What stays.
    let export = stack.admin.get("/export?tenant=acme").await.text().await.unwrap();
    assert_eq!(tables_of(&export), STAYS.map(str::to_owned).into());
    let entries = "FROM audit_entries WHERE tenant_id = (SELECT id FROM tenants WHERE name = 'acme')";
    assert_eq!(stack.number(&format!("SELECT count(*) AS n {entries} AND action = 'tenant.erased'")).await, 1);
    let again = stack.admin.post("/tenants", json!({ "name": "acme" })).await;
    problem(again, StatusCode::CONFLICT, "already_exists").await;
    let names = tables_with(stack, "sst2").await;
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
    let field = Field::new().await;
    field.furnish("acme", 1).await;
    let (stack, Furnished { user: rival, manager }) = (&field.stack, field.furnish("rival", 5).await);
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
