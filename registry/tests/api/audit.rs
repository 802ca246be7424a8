//! Who changed what: an entry for each change, in the change's transaction, in the chain of whose thing it is.

use std::collections::BTreeMap;

use reqwest::{Method, RequestBuilder, StatusCode};
use sea_orm::{ConnectionTrait as _, DatabaseBackend, DatabaseConnection, FromQueryResult as _, JsonValue, Statement};
use serde_json::{Value, json};
use souk_registry::{Action, AuditVerifier, HeadLine, Needs, RULES, RegistryConfig, Rule, recover_admin_key};

use crate::browser::Browser;
use crate::components::{component, component_form};
use crate::support::{AdapterFiles, Stack, User, body, config_in, in_haste, problem, wait_until};
use crate::told::ELSEWHERE;

/// Stands in every text that a person writes, and must be in no entry.
const WRITTEN: &str = "anna.muster@example.org";

/// A request that changes something, and whose chain tells it; `None` where nothing is changed.
struct Change {
    request: RequestBuilder,
    chain: Option<String>,
    action: &'static str,
}

/// Makes what `rule` needs and answers the request. `fresh` is a name that nothing has.
async fn prepare(stack: &Stack, acme: &User, rule: &Rule, fresh: &str, seed: u8) -> Change {
    let tenant = stack.principal(acme).await.tenant.to_string();
    let adapter = format!("acme/{fresh}");
    if rule.path.contains("{name}") {
        acme.make_adapter(fresh, "private").await;
        if rule.action != Action::PublishVersion {
            acme.publish(&adapter, "1.0.0", seed).await;
        }
    }
    let version = "/versions/1.0.0";
    let tag = format!("/adapters/{adapter}/tags/prod");
    if rule.path.contains("{hook}") {
        acme.make_hook(fresh, "shared").await;
        if rule.action != Action::PublishHookVersion {
            acme.publish_hook(&adapter, "1.0.0", seed).await;
        }
    }
    match rule.action {
        Action::UnyankVersion => _ = acme.post(&format!("/adapters/{adapter}{version}/yank"), json!({})).await,
        Action::CancelErasure => _ = stack.admin.post("/tenants/acme/erasure", json!({})).await,
        Action::UnyankHookVersion => _ = acme.post(&format!("/hooks/{adapter}{version}/yank"), json!({})).await,
        Action::DeleteHookGrant => {
            let granted = decider(stack).await.put(&format!("/hooks/{adapter}/grants/admin"), json!({})).await;
            assert_eq!(granted.status(), StatusCode::OK);
        }
        Action::DeleteTag => _ = acme.put(&tag, json!({ "version": "1.0.0" })).await,
        _ => {}
    }
    let key = async || {
        let made = acme.post("/keys", json!({ "name": WRITTEN, "scopes": ["inference"] })).await;
        body(made, StatusCode::CREATED).await["id"].as_str().unwrap().to_owned()
    };
    let hook = json!({ "url": format!("https://hooks.invalid/{WRITTEN}"), "description": WRITTEN });
    let mut ids = String::new();
    let mut delivery = String::new();
    if rule.path.contains("{webhook}") {
        let made = body(manager(stack).await.post("/webhooks", hook.clone()).await, StatusCode::CREATED).await;
        ids = made["id"].as_str().unwrap().to_owned();
        if rule.path.contains("{delivery}") {
            acme.make_adapter(fresh, "private").await;
            acme.publish(&adapter, "1.0.0", seed).await;
            let sent = manager(stack).await.get(&format!("/webhooks/{ids}/deliveries")).await;
            delivery = body(sent, StatusCode::OK).await["data"][0]["id"].as_str().unwrap().to_owned();
        }
    }
    let by = if matches!(rule.needs, Needs::Scope(scope) if scope.as_str() == "admin") { &stack.admin } else { acme };
    let manager = manager(stack).await;
    let is_managers =
        ["/webhooks", "/policy", "/members", "/invitations", "/teams", "/limits", "/pipelines", "/hook-settings"]
            .iter()
            .any(|path| rule.path.starts_with(path));
    let by = if is_managers { &manager } else { by };
    let decider = decider(stack).await;
    let by = if matches!(rule.action, Action::PutHookGrant | Action::DeleteHookGrant) { &decider } else { by };
    let path = rule
        .path
        .replace("{owner}/{name}", &adapter)
        .replace("{owner}/{hook}", &adapter)
        .replace("{version}", "1.0.0")
        .replace("{tag}", "prod");
    let path = path.replace("{at}", "route").replace("{target}", "chat");
    let of_grant = rule.path.contains("/grants/");
    let path = path
        .replace("{tenant}", if of_grant { "admin" } else { "acme" })
        .replace("{webhook}", &ids)
        .replace("{delivery}", &delivery);
    let (request, action) = match rule.action {
        Action::ExchangeToken => (json!({}), ""),
        Action::RotateSigningKey => (json!({}), "signing_key.rotated"),
        Action::CreateTenant => (json!({ "name": fresh }), "tenant.created"),
        Action::CreateService => (json!({ "name": fresh }), "service.created"),
        Action::RevokeService => (Value::Null, "service.revoked"),
        Action::CreateKey => (json!({ "name": WRITTEN, "scopes": ["inference"] }), "key.created"),
        Action::RevokeKey => (Value::Null, "key.revoked"),
        Action::RotateKey => (json!({}), "key.rotated"),
        Action::SetPolicy => (json!({}), "policy.set"),
        Action::CreateAdapter => (json!({ "name": fresh, "description": WRITTEN }), "adapter.created"),
        Action::UpdateAdapter => (json!({ "description": WRITTEN }), "adapter.updated"),
        Action::DeleteAdapter => (Value::Null, "adapter.deleted"),
        Action::PublishVersion => (Value::Null, "version.ready"),
        Action::DeleteVersion => (Value::Null, "version.deleted"),
        Action::YankVersion => (Value::Null, "version.yanked"),
        Action::UnyankVersion => (Value::Null, "version.unyanked"),
        Action::TakeDownVersion => (json!({ "reason": WRITTEN }), "version.taken_down"),
        Action::PutTag => (json!({ "version": "1.0.0" }), "tag.put"),
        Action::DeleteTag => (Value::Null, "tag.deleted"),
        Action::CreateWebhook => (hook, "webhook.created"),
        Action::UpdateWebhook => (json!({ "description": WRITTEN, "enabled": false }), "webhook.updated"),
        Action::DeleteWebhook => (Value::Null, "webhook.deleted"),
        Action::RotateWebhookSecret => (Value::Null, "webhook.secret_rotated"),
        Action::ReplayDelivery => (Value::Null, "webhook.delivery_replayed"),
        Action::RequestErasure => (json!({}), "tenant.erasure_requested"),
        Action::CancelErasure => (Value::Null, "tenant.erasure_cancelled"),
        Action::ChangeRole => (json!({ "role": "billing" }), "member.role_changed"),
        Action::RemoveMember => (Value::Null, "member.removed"),
        Action::CreateSignInLink => (json!({}), "sign_in_link.created"),
        Action::CreateInvitation => (json!({ "email": WRITTEN, "role": "viewer" }), "invitation.created"),
        Action::RevokeInvitation => (Value::Null, "invitation.revoked"),
        Action::ErasePerson => (Value::Null, "person.erased"),
        Action::CreateTeam => (json!({ "name": fresh }), "team.created"),
        Action::DeleteTeam => (Value::Null, "team.deleted"),
        Action::AddTeamMember => (Value::Null, "team.member_added"),
        Action::RemoveTeamMember => (Value::Null, "team.member_removed"),
        Action::SetLimits => (json!({ "limits": { "tokens_per_day": { "value": 1 } } }), "limits.set"),
        Action::SetAnswers => (json!({ "output_ceiling": seed }), "limits.answers_set"),
        Action::SetTenantLimits => (json!({ "limits": { "requests_per_minute": { "value": 1 } } }), "limits.set"),
        Action::CreateHook => (json!({ "name": fresh, "description": WRITTEN }), "hook.created"),
        Action::UpdateHook => (json!({ "description": WRITTEN }), "hook.updated"),
        Action::DeleteHook => (Value::Null, "hook.deleted"),
        Action::PublishHookVersion => (Value::Null, "hook_version.ready"),
        Action::DeleteHookVersion => (Value::Null, "hook_version.deleted"),
        Action::YankHookVersion => (Value::Null, "hook_version.yanked"),
        Action::UnyankHookVersion => (Value::Null, "hook_version.unyanked"),
        Action::TakeDownHookVersion => (json!({ "reason": WRITTEN }), "hook_version.taken_down"),
        Action::PutHookGrant => (Value::Null, "hook.granted"),
        Action::DeleteHookGrant => (Value::Null, "hook.grant_withdrawn"),
        Action::SetHookLimits => {
            (json!({ "limits": { "max_fuel": 100_000_000 + u64::from(seed) } }), "hook_limits.set")
        }
        Action::SetHookSettings => (json!({ "variables": { "company": WRITTEN } }), "hook_settings.set"),
        Action::SetPipeline | Action::SetVersionPipeline => (steps(stack, acme, fresh).await, "pipeline.set"),
        Action::RollBackPipeline | Action::RollBackVersionPipeline => {
            let set = path.strip_suffix("/roll-back").unwrap();
            for steps in [steps(stack, acme, fresh).await, json!({ "steps": [] })] {
                assert_eq!(by.put(set, steps).await.status(), StatusCode::OK);
            }
            let now = body(by.get(set).await, StatusCode::OK).await;
            (json!({ "number": now["number"].as_i64().unwrap() - 1 }), "pipeline.set")
        }
        other => panic!("{other:?} changes something: say here how it is done, and what its entry is called"),
    };
    let path = match rule.action {
        Action::RevokeKey | Action::RotateKey => path.replace("{id}", &key().await),
        Action::RevokeService => {
            let made = body(stack.admin.post("/services", json!({ "name": fresh })).await, StatusCode::CREATED).await;
            path.replace("{id}", made["id"].as_str().unwrap())
        }
        Action::RevokeInvitation => {
            let asked = json!({ "email": WRITTEN, "role": "viewer" });
            let made = body(manager.post("/invitations", asked).await, StatusCode::CREATED).await;
            path.replace("{invitation}", made["id"].as_str().unwrap())
        }
        _ if rule.path.contains("{person}") => {
            let browser = Browser::of_member(stack, "acme", "viewer").await;
            let person = browser.person().await;
            if rule.action == Action::ErasePerson {
                // So that the one chain is the installation's.
                assert_eq!(browser.change(Method::DELETE, "/auth/membership", Value::Null).await.status(), 204);
            }
            let path = path.replace("{person}", &person);
            let path =
                if rule.path.contains("{team}") { path.replace("{team}", &team(&manager, fresh).await) } else { path };
            if rule.action == Action::RemoveTeamMember {
                assert_eq!(manager.put(&path, Value::Null).await.status(), StatusCode::NO_CONTENT);
            }
            path
        }
        Action::DeleteTeam => path.replace("{team}", &team(&manager, fresh).await),
        Action::SetLimits => path.replace("{level}", "key").replace("{subject}", &key().await),
        _ => path,
    };
    let method: Method = rule.method.parse().unwrap();
    let sent = by.request(method, &path);
    let sent = match (rule.action, request) {
        (Action::PublishHookVersion, _) => sent.multipart(component_form("1.0.0", component(seed))),
        (Action::PublishVersion, _) => sent.multipart(AdapterFiles::tiny(seed).form("1.0.0")),
        (_, Value::Null) => sent,
        (_, request) => sent.json(&request),
    };
    let chain = match rule.action {
        Action::ExchangeToken => None,
        Action::RotateSigningKey | Action::CreateService | Action::RevokeService | Action::ErasePerson => {
            Some("installation".to_owned())
        }
        // Not known before it is made.
        Action::CreateTenant => Some(String::new()),
        _ => Some(tenant),
    };
    Change { request: sent, chain, action }
}

/// Who shares what acme has.
async fn decider(stack: &Stack) -> User {
    stack.key_for("acme", &["access:decide"]).await
}

/// A step of a hook of acme's, which is made if there is none.
async fn steps(_stack: &Stack, acme: &User, fresh: &str) -> Value {
    let name = format!("{fresh}-hook");
    if acme.get(&format!("/hooks/acme/{name}")).await.status() == StatusCode::NOT_FOUND {
        acme.make_hook(&name, "private").await;
        acme.publish_hook(&format!("acme/{name}"), "1.0.0", 200).await;
    }
    json!({ "steps": [{ "hook": format!("acme/{name}"), "config": { "words": [WRITTEN] } }] })
}

/// The id of a new team of acme.
async fn team(manager: &User, name: &str) -> String {
    let made = body(manager.post("/teams", json!({ "name": name })).await, StatusCode::CREATED).await;
    made["id"].as_str().unwrap().to_owned()
}

/// No delivery is tried meanwhile, and a webhook is made for each change.
fn quietly(config: &mut RegistryConfig) {
    config.settings.webhooks.look_every = std::time::Duration::from_secs(3600);
}

/// Who manages the tenant acme, and may give the roles of those who bill and view.
async fn manager(stack: &Stack) -> User {
    stack.key_for("acme", &["tenant:manage", "adapters:read", "audit:read", "usage:read"]).await
}

/// The rules of what changes something here: uploads that go straight to a bucket, access, keys that are reported, and what
/// a person does with a session have tests of their own.
fn changing() -> impl Iterator<Item = (u8, Rule)> {
    let is_here =
        |rule: &Rule| rule.method != "GET" && ELSEWHERE.iter().all(|(elsewhere, _)| *elsewhere != rule.action);
    (10..).zip(RULES.into_iter().filter(is_here))
}

/// All entries, as (chain, number) and what else they say.
async fn entries(db: &DatabaseConnection) -> BTreeMap<(String, i64), Value> {
    let rows = rows_of(db, "audit_entries").await.into_iter();
    rows.map(|row| ((row["tenant_id"].as_str().unwrap().to_owned(), row["number"].as_i64().unwrap()), row)).collect()
}

async fn rows_of(db: &DatabaseConnection, table: &str) -> Vec<Value> {
    let query = Statement::from_string(db.get_database_backend(), format!("SELECT * FROM {table}"));
    JsonValue::find_by_statement(query).all(db).await.unwrap()
}

#[tokio::test]
async fn every_change_leaves_one_entry_in_the_chain_of_whose_thing_it_is_and_a_failure_none() {
    let stack = Stack::start_with(quietly).await;
    let (acme, db) = (stack.tenant("acme").await, stack.database().await);
    let reader = stack.key_for("acme", &["adapters:read"]).await;
    // The first token makes a signing key, which is a change of its own.
    assert_eq!(acme.post("/auth/token", json!({})).await.status(), StatusCode::OK);
    for (seed, rule) in changing() {
        let change = prepare(&stack, &acme, &rule, &format!("it-{seed}"), seed).await;
        let refused = change.request.try_clone();
        let before = entries(&db).await;
        if let Some(refused) = refused.filter(|_| rule.action != Action::ExchangeToken) {
            let mut refused = refused.build().unwrap();
            refused.headers_mut().insert("authorization", format!("Bearer {}", reader.key).parse().unwrap());
            let answer = acme.client.execute(refused).await.unwrap();
            assert!(answer.status().is_client_error(), "{:?}: {}", rule.action, answer.status());
            assert_eq!(entries(&db).await, before, "{:?} was refused", rule.action);
        }
        let answer = change.request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{:?}: {status} {text}", rule.action);
        let after = entries(&db).await;
        let new: Vec<_> = after.iter().filter(|(place, _)| !before.contains_key(*place)).collect();
        let Some(chain) = change.chain else {
            assert!(new.is_empty(), "{:?}: {new:?}", rule.action);
            continue;
        };
        let [((of, _), entry)] = new[..] else { panic!("{:?}: {new:?}", rule.action) };
        let made: Value = serde_json::from_str(&text).unwrap_or_default();
        let chain = if rule.action == Action::CreateTenant { made["id"].as_str().unwrap().to_owned() } else { chain };
        assert_eq!((of, &entry["action"]), (&chain, &json!(change.action)), "{:?}", rule.action);
        assert_eq!(entry["actor_kind"], "key");
        for (place, old) in &before {
            assert_eq!(after.get(place), Some(old), "no entry is ever changed");
        }
    }
    let all = format!("{:?}", entries(&db).await);
    assert!(!all.contains(WRITTEN) && !all.contains("example.org"), "{all}");
}

#[tokio::test]
async fn what_cannot_be_appended_is_not_done() {
    let stack = Stack::start_with(quietly).await;
    let (acme, db) = (stack.tenant("acme").await, stack.database().await);
    let mut changes = Vec::new();
    for (seed, rule) in changing() {
        changes.push((rule, prepare(&stack, &acme, &rule, &format!("it-{seed}"), seed).await));
    }
    // A token now, so that none is made later with a signing key of its own.
    assert_eq!(acme.post("/auth/token", json!({})).await.status(), StatusCode::OK);
    refuse_entries(&db).await;
    let before = state(&db).await;
    for (rule, change) in changes {
        let is_change = change.chain.is_some();
        let status = change.request.send().await.unwrap().status();
        assert_eq!(status == StatusCode::INTERNAL_SERVER_ERROR, is_change, "{:?}: {status}", rule.action);
        assert_eq!(state(&db).await, before, "{:?}", rule.action);
    }
}

/// Has the database refuse every entry from now on.
pub(crate) async fn refuse_entries(db: &DatabaseConnection) {
    let refuse = match db.get_database_backend() {
        DatabaseBackend::Postgres => {
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'full'; END $$; \
             CREATE TRIGGER refuse BEFORE INSERT ON audit_entries FOR EACH ROW EXECUTE FUNCTION refuse()"
        }
        _ => "CREATE TRIGGER refuse BEFORE INSERT ON audit_entries BEGIN SELECT RAISE(ABORT, 'full'); END",
    };
    db.execute_unprepared(refuse).await.unwrap();
}

/// Every row but those of what is under way and of last use.
pub(crate) async fn state(db: &DatabaseConnection) -> BTreeMap<&'static str, Vec<String>> {
    let tables = [
        "tenants",
        "tenant_policies",
        "tenant_limits",
        "limits",
        "teams",
        "api_keys",
        "services",
        "adapters",
        "adapter_gates",
        "adapter_grants",
        "access_requests",
        "versions",
        "version_files",
        "tags",
        "hooks",
        "hook_grants",
        "hook_settings",
        "hook_limits",
        "pipelines",
        "taken_down_content",
        "withdrawals",
        "signing_keys",
        "outbox",
        "webhook_endpoints",
        "tenant_erasures",
        "persons",
        "members",
        "invitations",
        "sign_in_links",
        "audit_heads",
        "audit_entries",
    ];
    let mut state = BTreeMap::new();
    for table in tables {
        let mut rows: Vec<_> = rows_of(db, table).await;
        rows.iter_mut().for_each(|row| drop(row.as_object_mut().unwrap().remove("last_used_at_ms")));
        let mut rows: Vec<_> = rows.iter().map(Value::to_string).collect();
        rows.sort_unstable();
        state.insert(table, rows);
    }
    state
}

#[tokio::test]
async fn keys_of_the_host_what_the_collector_ends_and_what_goes_along_are_told_too() {
    let stack = Stack::start_with(in_haste).await;
    let admin = stack.principal(&stack.admin).await.tenant.to_string();
    let db = stack.database().await;
    let told = async |chain: &str| -> Vec<(String, String)> {
        let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
        let of_chain = entries(&db).await.into_iter().filter(|((of, _), _)| of == chain);
        of_chain.map(|(_, row)| (text(&row, "actor_kind"), text(&row, "action"))).collect()
    };
    recover_admin_key(&config_in(stack.folder.path())).await.unwrap();
    let host = |action: &str| ("host".to_owned(), action.to_owned());
    assert_eq!(told(&admin).await, [host("tenant.created"), host("key.bootstrapped"), host("key.recovered")]);

    // The keys of two tenants go with the operator's key that made them: each hears of its own.
    let operator = stack.key_for("admin", &["admin"]).await;
    let mut chains = Vec::new();
    for name in ["acme", "rival"] {
        assert_eq!(operator.post("/tenants", json!({ "name": name })).await.status(), StatusCode::CREATED);
        let request = json!({ "name": "first", "scopes": ["adapters:write"], "tenant": name });
        let made = body(operator.post("/keys", request).await, StatusCode::CREATED).await;
        chains.push(stack.principal(&stack.user(made["secret"].as_str().unwrap())).await.tenant.to_string());
    }
    let id = stack.principal(&operator).await.key.to_string();
    assert_eq!(stack.admin.delete(&format!("/keys/{id}")).await.status(), StatusCode::NO_CONTENT);
    for chain in &chains {
        let key = |action: &str| ("key".to_owned(), action.to_owned());
        assert_eq!(told(chain).await, [key("tenant.created"), key("key.created"), key("key.revoked")]);
    }
    // Nothing is changed by doing it again.
    assert_eq!(stack.admin.delete(&format!("/keys/{id}")).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(told(&chains[0]).await.len(), 3);

    let acme = stack.key_for("acme", &["adapters:read", "adapters:write"]).await;
    acme.make_adapter("sst2", "private").await;
    db.execute_unprepared(
        "INSERT INTO uploads (id, adapter_id, version, state, started_at_ms, owner, lease_expires_at_ms)
         SELECT 'upl_dead', id, '2.0.0', 'validating', 0, 'reg_dead', 1 FROM adapters",
    )
    .await
    .unwrap();
    wait_until("the collector ends the upload", async || {
        told(&chains[0]).await.last() == Some(&("system".to_owned(), "upload.abandoned".to_owned()))
    })
    .await;
}

#[tokio::test]
async fn a_chain_is_read_in_pages_that_stay_and_by_nobody_else() {
    let stack = Stack::start().await;
    let (acme, rival) = (stack.tenant("acme").await, stack.tenant("rival").await);
    let auditor = stack.key_for("acme", &["audit:read"]).await;
    for number in 0..5 {
        acme.make_adapter(&format!("a{number}"), "private").await;
    }
    problem(acme.get("/audit").await, StatusCode::FORBIDDEN, "scope_missing").await;
    let first = body(auditor.get("/audit?limit=3").await, StatusCode::OK).await;
    // What comes meanwhile moves nothing.
    acme.make_adapter("late", "private").await;
    let mut numbers: Vec<i64> = Vec::new();
    let mut page = first.clone();
    loop {
        numbers.extend(page["data"].as_array().unwrap().iter().map(|entry| entry["number"].as_i64().unwrap()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        page = body(auditor.get(&format!("/audit?limit=3&cursor={cursor}")).await, StatusCode::OK).await;
    }
    // Made: the tenant, two keys, five adapters.
    assert_eq!(numbers, (1..=8).rev().collect::<Vec<_>>());
    let newest = &first["data"][0];
    assert_eq!((&newest["action"], &newest["subject"]), (&json!("adapter.created"), &json!("acme/a4")));
    assert_eq!(newest["actor"]["id"], json!(stack.principal(&acme).await.key.to_string()));

    for path in ["/audit", "/audit/export", "/audit/heads"] {
        let others = format!("{path}?tenant=rival");
        problem(auditor.get(&others).await, StatusCode::FORBIDDEN, "scope_missing").await;
        problem(auditor.get(&format!("{path}?installation=true")).await, StatusCode::FORBIDDEN, "scope_missing").await;
        assert_eq!(stack.admin.get(&others).await.status(), StatusCode::OK);
        assert_eq!(stack.admin.get(&format!("{path}?installation=true")).await.status(), StatusCode::OK);
        problem(stack.admin.get(&format!("{path}?tenant=nobody")).await, StatusCode::NOT_FOUND, "not_found").await;
        let both = stack.admin.get(&format!("{path}?tenant=acme&installation=true")).await;
        problem(both, StatusCode::BAD_REQUEST, "invalid_query").await;
    }
    problem(auditor.get("/audit?cursor=eHg").await, StatusCode::BAD_REQUEST, "invalid_query").await;
    drop(rival);
}

/// The export of a chain, and what verifying it against `heads` says.
async fn verify(user: &User, path: &str, heads: Vec<HeadLine>) -> Result<(i64, usize), String> {
    let answer = user.get(path).await;
    assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
    let bytes = answer.bytes().await.unwrap();
    let mut verifier = AuditVerifier::new(heads);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        verifier.line(line).map_err(|fault| fault.to_string())?;
    }
    verifier.finish().map(|good| (good.last, good.num_heads)).map_err(|fault| fault.to_string())
}

async fn heads_of(user: &User) -> Vec<HeadLine> {
    let page = body(user.get("/audit/heads").await, StatusCode::OK).await;
    page["data"].as_array().unwrap().iter().map(|head| serde_json::from_value(head.clone()).unwrap()).collect()
}

#[tokio::test]
async fn heads_are_published_and_tell_what_is_done_to_the_database() {
    let stack = Stack::start_with(|config| {
        in_haste(config);
        config.settings.publish_heads_every = std::time::Duration::from_millis(100);
    })
    .await;
    let acme = stack.tenant("acme").await;
    let auditor = stack.key_for("acme", &["audit:read"]).await;
    for name in ["one", "two", "three"] {
        acme.make_adapter(name, "private").await;
    }
    let is_published = async || heads_of(&auditor).await.iter().any(|head| head.number == 6);
    wait_until("the chain's end is published", is_published).await;
    let heads = heads_of(&auditor).await;
    assert_eq!(verify(&auditor, "/audit/export", heads.clone()).await.unwrap().0, 6);
    assert!(verify(&auditor, "/audit/export", heads.clone()).await.unwrap().1 >= 1);

    let db = stack.database().await;
    let of_acme = "tenant_id = (SELECT id FROM tenants WHERE name = 'acme')";
    let told = async |change: String, back: String| {
        db.execute_unprepared(&change).await.unwrap();
        let fault = verify(&auditor, "/audit/export", heads.clone()).await.unwrap_err();
        db.execute_unprepared(&back).await.unwrap();
        assert!(verify(&auditor, "/audit/export", heads.clone()).await.is_ok());
        fault
    };
    let update = |to: &str, number: i64| format!("UPDATE audit_entries SET {to} WHERE {of_acme} AND number = {number}");
    let fault = told(update("actor_kind = 'host'", 3), update("actor_kind = 'key'", 3)).await;
    assert!(fault.starts_with("entry 3 was changed"), "{fault}");
    let end = |number: i64, of: i64| {
        format!(
            "UPDATE audit_heads SET number = {number}, hash = (SELECT hash FROM audit_entries e WHERE \
             e.tenant_id = audit_heads.tenant_id AND e.number = {of}) WHERE {of_acme}"
        )
    };
    // Cut off at the end, with the head moved to where it ends now.
    let fault = told(end(4, 4), end(6, 6)).await;
    assert!(fault.starts_with("the chain is cut off after entry 4"), "{fault}");
}

#[tokio::test]
async fn a_missing_entry_breaks_the_export_off() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let auditor = stack.key_for("acme", &["audit:read"]).await;
    acme.make_adapter("sst2", "private").await;
    let db = stack.database().await;
    db.execute_unprepared(
        "DELETE FROM audit_entries WHERE number = 2 AND tenant_id = (SELECT id FROM tenants WHERE name = 'acme')",
    )
    .await
    .unwrap();
    let broken = auditor.get("/audit/export").await.bytes().await;
    assert!(broken.is_err(), "{broken:?}");
}

#[tokio::test]
async fn writers_of_one_chain_leave_no_hole_in_it() {
    let stack = Stack::start_with(in_haste).await;
    let second = Stack::start_in(stack.folder.clone(), in_haste).await;
    let acme = stack.tenant("acme").await;
    let auditor = stack.key_for("acme", &["audit:read"]).await;
    let at_second = second.user(&acme.key);
    let made = (0..12).map(|number| {
        let user = if number % 2 == 0 { acme.clone() } else { at_second.clone() };
        async move { user.post("/adapters", json!({ "name": format!("a{number}") })).await.status() }
    });
    for status in futures::future::join_all(made).await {
        assert!([StatusCode::CREATED, StatusCode::SERVICE_UNAVAILABLE].contains(&status), "{status}");
    }
    let num_adapters = stack.number("SELECT count(*) AS n FROM adapters").await;
    assert_eq!(verify(&auditor, "/audit/export", Vec::new()).await, Ok((num_adapters + 3, 0)));
}
