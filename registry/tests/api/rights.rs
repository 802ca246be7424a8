//! Rights belong to the thing: to content and not to its name, to whom a key came from and not to its row alone.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use souk_protocol::{AdapterRef, ResolveError};
use souk_registry::{Registry, Withdrawn};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::support::{AdapterFiles, Stack, User, body, in_haste, problem, wait_until};

async fn take_down(stack: &Stack, version: &str) -> Value {
    let (adapter, number) = version.split_once('@').unwrap();
    let path = format!("/adapters/{adapter}/versions/{number}/take-down");
    body(stack.admin.post(&path, json!({ "reason": "stolen weights" })).await, StatusCode::OK).await
}

async fn resolves(stack: &Stack, user: &User, reference: &str) -> Result<(), ResolveError> {
    let principal = stack.principal(user).await;
    let reference: AdapterRef = reference.parse().unwrap();
    stack.registry.resolve(&principal, &reference).await.map(|_| ())
}

async fn new_key(user: &User, request: Value) -> User {
    let made = body(user.post("/keys", request).await, StatusCode::CREATED).await;
    User::new(user.base_url(), made["secret"].as_str().unwrap())
}

async fn id_of(stack: &Stack, user: &User) -> String {
    stack.principal(user).await.key.to_string()
}

fn in_an_hour() -> String {
    (OffsetDateTime::from(souk_protocol::wall_clock::now()) + time::Duration::hours(1)).format(&Rfc3339).unwrap()
}

#[tokio::test]
async fn content_that_was_taken_down_is_refused_under_every_number_name_and_tenant() {
    let stack = Stack::start().await;
    let (acme, rival) = (stack.tenant("acme").await, stack.tenant("rival").await);
    for (user, name) in [(&acme, "secret-name"), (&acme, "other"), (&rival, "mine")] {
        user.make_adapter(name, "private").await;
    }
    acme.publish("acme/secret-name", "1.0.0", 1).await;
    take_down(&stack, "acme/secret-name@1.0.0").await;
    let objects = stack.num_objects();
    // The same weights with another configuration are the same content.
    let mut renamed = AdapterFiles::tiny(1);
    renamed.config["lora_alpha"] = json!(8);
    for files in [AdapterFiles::tiny(1), renamed] {
        for (user, adapter) in [(&acme, "acme/secret-name"), (&acme, "acme/other"), (&rival, "rival/mine")] {
            let refused = user.upload(adapter, "1.0.1", &files).await;
            let refused = problem(refused, StatusCode::CONFLICT, "content_taken_down").await;
            let detail = refused["detail"].as_str().unwrap();
            assert!(detail.contains("sha256:") && detail.contains("stolen weights"), "{detail}");
            assert!(!detail.contains("secret-name") && !detail.contains("acme"), "{detail}");
        }
    }
    assert_eq!(stack.num_objects(), objects, "nothing of it is kept");
    // Other content under the same names is welcome, and the number is free.
    acme.publish("acme/secret-name", "1.0.1", 2).await;
    assert!(resolves(&stack, &acme, "acme/secret-name").await.is_ok());
}

#[tokio::test]
async fn versions_with_the_same_content_go_together_and_their_listeners_hear_of_each() {
    let stack = Stack::start().await;
    let (acme, rival) = (stack.tenant("acme").await, stack.tenant("rival").await);
    acme.make_adapter("one", "private").await;
    rival.make_adapter("two", "public").await;
    let first = acme.publish("acme/one", "1.0.0", 1).await;
    acme.publish("acme/one", "2.0.0", 3).await;
    let mut tweaked = AdapterFiles::tiny(1);
    tweaked.config["lora_alpha"] = json!(8);
    let second = body(rival.upload("rival/two", "0.1.0", &tweaked).await, StatusCode::CREATED).await;
    assert_ne!(first["digest"], second["digest"]);
    let mut listener = stack.registry.withdrawals();
    take_down(&stack, "acme/one@1.0.0").await;
    for (user, reference) in [
        (&acme, "acme/one@1.0.0".to_owned()),
        (&rival, "rival/two@0.1.0".to_owned()),
        (&acme, format!("rival/two@{}", second["digest"].as_str().unwrap())),
    ] {
        assert!(matches!(resolves(&stack, user, &reference).await, Err(ResolveError::TakenDown(_))), "{reference}");
    }
    let gone = body(rival.get("/adapters/rival/two/versions/0.1.0").await, StatusCode::OK).await;
    assert_eq!((gone["state"].as_str(), gone["state_reason"].as_str()), (Some("taken_down"), Some("stolen weights")));
    assert!(resolves(&stack, &acme, "acme/one").await.is_ok(), "other content of the same adapter serves");
    let mut heard = Vec::new();
    for _ in 0..2 {
        let Some(Withdrawn::Version(digest)) = listener.next().await else { panic!("a version was taken down") };
        heard.push(Value::from(digest.to_string()));
    }
    assert!(heard.contains(&first["digest"]) && heard.contains(&second["digest"]), "{heard:?}");
}

#[tokio::test]
async fn an_owner_cannot_delete_the_evidence() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    for name in ["one", "two", "three"] {
        acme.make_adapter(name, "private").await;
    }
    let refuses = async |seed| {
        let again = acme.upload("acme/three", "9.0.0", &AdapterFiles::tiny(seed)).await;
        problem(again, StatusCode::CONFLICT, "content_taken_down").await;
    };
    // Deleted after the take-down: the bytes go, the record stays.
    acme.publish("acme/one", "1.0.0", 1).await;
    take_down(&stack, "acme/one@1.0.0").await;
    assert_eq!(acme.delete("/adapters/acme/one/versions/1.0.0").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(stack.num_objects(), 0);
    let kept = body(acme.get("/adapters/acme/one/versions/1.0.0").await, StatusCode::OK).await;
    assert_eq!((kept["state"].as_str(), kept["state_reason"].as_str()), (Some("taken_down"), Some("stolen weights")));
    assert!(matches!(resolves(&stack, &acme, "acme/one@1.0.0").await, Err(ResolveError::TakenDown(_))));
    refuses(1).await;
    assert_eq!(acme.delete("/adapters/acme/one").await.status(), StatusCode::NO_CONTENT);
    refuses(1).await;
    // Deleted before it, with its adapter.
    acme.publish("acme/two", "1.0.0", 2).await;
    assert_eq!(acme.delete("/adapters/acme/two").await.status(), StatusCode::NO_CONTENT);
    take_down(&stack, "acme/two@1.0.0").await;
    refuses(2).await;
}

#[tokio::test]
async fn a_take_down_that_comes_during_the_upload_is_not_missed() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    acme.publish("acme/sst2", "1.0.0", 1).await;
    let (form, go_on) = crate::support::halting_form("2.0.0", 1);
    let request = acme.request(Method::POST, "/adapters/acme/sst2/versions").multipart(form);
    let upload = tokio::spawn(request.send());
    wait_until("it has begun", async || crate::faults::num_uploads(&stack).await == 1).await;
    take_down(&stack, "acme/sst2@1.0.0").await;
    go_on.send(()).unwrap();
    problem(upload.await.unwrap().unwrap(), StatusCode::CONFLICT, "content_taken_down").await;
}

#[tokio::test]
async fn a_key_makes_none_that_lives_longer_than_itself() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let soon = in_an_hour();
    let short = new_key(&acme, json!({ "name": "short", "scopes": ["keys:manage"], "expires_at": soon })).await;
    // Without a moment of its own it has that of its maker.
    let made = short.post("/keys", json!({ "name": "child", "scopes": ["keys:manage"] })).await;
    let made = body(made, StatusCode::CREATED).await;
    let moment = |text: &Value| OffsetDateTime::parse(text.as_str().unwrap(), &Rfc3339).unwrap().unix_timestamp();
    assert_eq!(moment(&made["expires_at"]), moment(&json!(soon)));
    let late = json!({ "name": "late", "scopes": ["keys:manage"], "expires_at": "2999-01-01T00:00:00Z" });
    let refused = problem(short.post("/keys", late).await, StatusCode::FORBIDDEN, "expiry_not_held").await;
    assert!(refused["detail"].as_str().unwrap().contains("expires at"), "{refused}");
    let more = json!({ "name": "more", "scopes": ["inference"] });
    problem(short.post("/keys", more).await, StatusCode::FORBIDDEN, "scope_not_held").await;
}

#[tokio::test]
async fn a_revoked_key_takes_along_what_was_made_with_it() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let request = json!({ "name": "k", "scopes": ["keys:manage", "adapters:read"] });
    let child = new_key(&acme, request.clone()).await;
    let grandchild = new_key(&child, request.clone()).await;
    let sibling = new_key(&acme, request.clone()).await;
    let mut listener = stack.registry.withdrawals();
    let (child_id, grandchild_id) = (id_of(&stack, &child).await, id_of(&stack, &grandchild).await);
    assert_eq!(acme.delete(&format!("/keys/{child_id}")).await.status(), StatusCode::NO_CONTENT);
    for dead in [&child, &grandchild] {
        problem(dead.get("/adapters").await, StatusCode::UNAUTHORIZED, "key_revoked").await;
    }
    for alive in [&acme, &sibling] {
        assert_eq!(alive.get("/adapters").await.status(), StatusCode::OK);
    }
    let told = [listener.next().await, listener.next().await].map(|told| match told {
        Some(Withdrawn::Key(id)) => id.to_string(),
        other => panic!("{other:?}"),
    });
    assert_eq!(BTreeSet::from(told), BTreeSet::from([child_id.clone(), grandchild_id.clone()]));
    // Who made and revoked which is there to be read.
    let listed = body(acme.get("/keys").await, StatusCode::OK).await;
    let row = |id: &str| listed["data"].as_array().unwrap().iter().find(|key| key["id"] == id).unwrap().clone();
    let by = id_of(&stack, &acme).await;
    assert_eq!((&row(&child_id)["made_by"], &row(&child_id)["revoked_by"]), (&json!(by), &json!(by)));
    assert_eq!((&row(&grandchild_id)["made_by"], &row(&grandchild_id)["revoked_by"]), (&json!(child_id), &json!(by)));
    // A key that is replaced may leave those that it made.
    let kept = new_key(&sibling, request).await;
    let path = format!("/keys/{}?made_keys=keep", id_of(&stack, &sibling).await);
    assert_eq!(acme.delete(&path).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(kept.get("/adapters").await.status(), StatusCode::OK);
    problem(sibling.get("/adapters").await, StatusCode::UNAUTHORIZED, "key_revoked").await;
}

#[tokio::test]
async fn a_key_that_replaces_its_maker_does_not_end_with_it_by_mistake() {
    let stack = Stack::start().await;
    let new = stack.key_for("admin", &["admin"]).await;
    let old = id_of(&stack, &stack.admin).await;
    problem(new.delete(&format!("/keys/{old}")).await, StatusCode::CONFLICT, "own_key_made_with_it").await;
    assert_eq!(stack.admin.get("/tenants").await.status(), StatusCode::OK, "nothing was revoked");
    assert_eq!(new.delete(&format!("/keys/{old}?made_keys=keep")).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(new.get("/tenants").await.status(), StatusCode::OK);
    problem(stack.admin.get("/tenants").await, StatusCode::UNAUTHORIZED, "key_revoked").await;
    // A key may end itself, with all that it made.
    let own = id_of(&stack, &new).await;
    assert_eq!(new.delete(&format!("/keys/{own}")).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn admin_keys_are_neither_seen_nor_revoked_without_one() {
    let stack = Stack::start().await;
    let manager = stack.key_for("admin", &["keys:manage"]).await;
    let admin = id_of(&stack, &stack.admin).await;
    let listed = body(manager.get("/keys").await, StatusCode::OK).await;
    assert!(!listed.to_string().contains(&admin), "{listed}");
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    problem(manager.delete(&format!("/keys/{admin}")).await, StatusCode::NOT_FOUND, "not_found").await;
    assert_eq!(stack.admin.get("/tenants").await.status(), StatusCode::OK);
    let listed = body(stack.admin.get("/keys").await, StatusCode::OK).await;
    assert_eq!(listed["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn an_answer_is_repeated_to_nobody_who_could_not_have_asked() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let reader = stack.key_for("acme", &["adapters:read"]).await;
    let send = async |user: &User, path: &str, request: Value| {
        user.request(Method::POST, path).header("idempotency-key", "k").json(&request).send().await.unwrap()
    };
    let adapter = json!({ "name": "sst2" });
    assert_eq!(send(&acme, "/adapters", adapter.clone()).await.status(), StatusCode::CREATED);
    problem(send(&reader, "/adapters", adapter).await, StatusCode::FORBIDDEN, "scope_missing").await;
    // An operator's key for a tenant is not shown to a manager of the operator's own keys.
    let manager = stack.key_for("admin", &["keys:manage"]).await;
    let key = json!({ "name": "x", "scopes": ["inference"], "tenant": "acme" });
    assert_eq!(send(&stack.admin, "/keys", key.clone()).await.status(), StatusCode::CREATED);
    problem(send(&manager, "/keys", key).await, StatusCode::FORBIDDEN, "scope_missing").await;
}

#[tokio::test]
async fn what_another_registry_withdraws_is_heard_within_a_second() {
    let first = Stack::start_with(in_haste).await;
    let acme = first.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    let version = acme.publish("acme/sst2", "1.0.0", 1).await;
    let id = id_of(&first, &acme).await;
    let second: Registry = Stack::start_in(first.folder.clone(), in_haste).await.registry.clone();
    let mut listener = second.withdrawals();
    let within = std::time::Duration::from_secs(1);
    take_down(&first, "acme/sst2@1.0.0").await;
    let heard = tokio::time::timeout(within, listener.next()).await.expect("within a second");
    assert_eq!(heard, Some(Withdrawn::Version(version["digest"].as_str().unwrap().parse().unwrap())));
    assert_eq!(first.admin.delete(&format!("/keys/{id}")).await.status(), StatusCode::NO_CONTENT);
    let heard = tokio::time::timeout(within, listener.next()).await.expect("within a second");
    assert!(matches!(heard, Some(Withdrawn::Key(key)) if key.to_string() == id));
    // Nothing is told twice.
    tokio::time::timeout(within, listener.next()).await.unwrap_err();
    let db = first.database().await;
    db.execute_unprepared("UPDATE withdrawals SET withdrawn_at_ms = 0").await.unwrap();
    wait_until("old rows are removed", async || {
        let left = db.query_one_raw(sea_orm::Statement::from_string(
            db.get_database_backend(),
            "SELECT count(*) AS n FROM withdrawals",
        ));
        left.await.unwrap().unwrap().try_get::<i64>("", "n").unwrap() == 0
    })
    .await;
}
