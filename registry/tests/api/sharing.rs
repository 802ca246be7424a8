//! Adapters that are shared with named tenants.

use reqwest::StatusCode;
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use souk_protocol::{AdapterRef, Deprived, ResolveError, TenantId};
use souk_registry::Withdrawn;

use crate::browser::persons_key;
use crate::support::{Stack, User, body, problem};

const ADAPTER: &str = "/adapters/acme/sst2";

async fn shared(stack: &Stack) -> (User, User, User) {
    let acme = stack.tenant("acme").await;
    let (friend, rival) = (stack.tenant("friend").await, stack.tenant("rival").await);
    acme.make_adapter("sst2", "shared").await;
    acme.publish("acme/sst2", "1.0.0", 1).await;
    let decider = stack.key_for("acme", &["adapters:read", "adapters:write", "access:decide"]).await;
    (decider, friend, rival)
}

async fn grant(owner: &User, to: &str, grant: Value) -> Value {
    body(owner.put(&format!("{ADAPTER}/grants/{to}"), grant).await, StatusCode::OK).await
}

async fn resolves(stack: &Stack, user: &User) -> Result<(), ResolveError> {
    let reference: AdapterRef = "acme/sst2@1.0.0".parse().unwrap();
    stack.registry.resolve(&stack.principal(user).await, &reference).await.map(|_| ())
}

async fn listed(user: &User) -> usize {
    body(user.get("/adapters").await, StatusCode::OK).await["data"].as_array().unwrap().len()
}

async fn models(stack: &Stack, user: &User) -> usize {
    let principal = stack.principal(user).await;
    stack.registry.list_models(&principal, 100).await.unwrap().models.len()
}

#[tokio::test]
async fn a_shared_adapter_is_there_for_those_it_was_granted_to_and_for_nobody_else() {
    let stack = Stack::start().await;
    let (acme, friend, rival) = shared(&stack).await;
    assert!(matches!(resolves(&stack, &friend).await, Err(ResolveError::NotFound(_))));
    let made = grant(&acme, "friend", json!({ "note": "contract 17" })).await;
    assert_eq!((made["tenant"].as_str(), made["note"].as_str()), (Some("friend"), Some("contract 17")));
    assert!(made["expires_at"].is_null());
    resolves(&stack, &friend).await.unwrap();
    for path in [ADAPTER, "/adapters/acme/sst2/versions/1.0.0/files/manifest.json"] {
        assert_eq!(friend.get(path).await.status(), StatusCode::OK, "{path}");
        problem(rival.get(path).await, StatusCode::NOT_FOUND, "not_found").await;
    }
    assert_eq!((listed(&friend).await, listed(&rival).await, listed(&acme).await), (1, 0, 1));
    assert_eq!((models(&stack, &friend).await, models(&stack, &rival).await), (1, 0));
    assert!(matches!(resolves(&stack, &rival).await, Err(ResolveError::NotFound(_))));
    // It may be called, and changed by its owner alone.
    let writer = stack.key_for("friend", &["adapters:write", "access:decide"]).await;
    problem(writer.patch(ADAPTER, json!({ "description": "mine" })).await, StatusCode::FORBIDDEN, "not_owner").await;
    let onward = writer.put(&format!("{ADAPTER}/grants/rival"), json!({})).await;
    problem(onward, StatusCode::FORBIDDEN, "not_owner").await;
}

#[tokio::test]
async fn a_grant_is_changed_listed_and_ends_by_its_time_with_the_next_query() {
    let stack = Stack::start().await;
    let (acme, friend, _) = shared(&stack).await;
    grant(&acme, "friend", json!({ "expires_at": "2999-01-01T00:00:00Z", "note": "first" })).await;
    let changed = grant(&acme, "friend", json!({ "note": "second" })).await;
    assert!(changed["expires_at"].is_null());
    let listed_grants = body(acme.get(&format!("{ADAPTER}/grants")).await, StatusCode::OK).await;
    assert_eq!(listed_grants["data"], json!([changed]));
    resolves(&stack, &friend).await.unwrap();
    let over = "UPDATE adapter_grants SET expires_at_ms = 1";
    stack.database().await.execute_unprepared(over).await.unwrap();
    assert!(matches!(resolves(&stack, &friend).await, Err(ResolveError::NotFound(_))));
    problem(friend.get(ADAPTER).await, StatusCode::NOT_FOUND, "not_found").await;
    assert_eq!((listed(&friend).await, models(&stack, &friend).await), (0, 0));
    let listed_grants = body(acme.get(&format!("{ADAPTER}/grants")).await, StatusCode::OK).await;
    assert_eq!(listed_grants["data"].as_array().unwrap().len(), 1, "the owner sees that it is over");
    grant(&acme, "friend", json!({})).await;
    resolves(&stack, &friend).await.unwrap();
}

#[tokio::test]
async fn what_is_taken_back_ends_for_that_tenant_and_its_gateways_hear_of_it() {
    let stack = Stack::start().await;
    let (acme, friend, rival) = shared(&stack).await;
    grant(&acme, "friend", json!({})).await;
    grant(&acme, "rival", json!({})).await;
    let mut listener = stack.registry.withdrawals();
    let path = format!("{ADAPTER}/grants/friend");
    assert_eq!(acme.delete(&path).await.status(), StatusCode::NO_CONTENT);
    let tenant = stack.principal(&friend).await.tenant;
    let expected = Withdrawn::Access { adapter: "acme/sst2".parse().unwrap(), from: Deprived::Tenant(tenant) };
    assert_eq!(listener.next().await, Some(expected));
    problem(friend.get(ADAPTER).await, StatusCode::NOT_FOUND, "not_found").await;
    resolves(&stack, &rival).await.unwrap();
    problem(acme.delete(&path).await, StatusCode::NOT_FOUND, "not_found").await;
    let told = "SELECT count(*) AS n FROM outbox WHERE kind = 'access.decided'";
    assert_eq!(stack.number(told).await, 3, "two were granted, one was taken back");
    let noted = "SELECT count(*) AS n FROM audit_entries WHERE action IN ('access.granted', 'access.withdrawn')";
    assert_eq!(stack.number(noted).await, 3);
}

#[tokio::test]
async fn an_adapter_that_is_hidden_ends_for_all_but_its_owner_whatever_was_granted() {
    let stack = Stack::start().await;
    let (acme, friend, _) = shared(&stack).await;
    grant(&acme, "friend", json!({})).await;
    let mut listener = stack.registry.withdrawals();
    let owner: TenantId = stack.principal(&acme).await.tenant;
    let (person, _) = persons_key(&stack, "acme", &["adapters:read", "adapters:write"]).await;
    for (visibility, hides) in [("public", false), ("shared", true), ("gated", false), ("private", true)] {
        let changed = person.patch(ADAPTER, json!({ "visibility": visibility })).await;
        assert_eq!(body(changed, StatusCode::OK).await["visibility"], visibility);
        if hides {
            let from = Deprived::AllBut(owner.clone());
            let expected = Withdrawn::Access { adapter: "acme/sst2".parse().unwrap(), from };
            assert_eq!(listener.next().await, Some(expected), "{visibility}");
        }
        let is_callable = resolves(&stack, &friend).await.is_ok();
        assert_eq!(is_callable, visibility != "private", "{visibility}");
    }
    problem(friend.get(ADAPTER).await, StatusCode::NOT_FOUND, "not_found").await;
    // What was granted counts again once it is shared again.
    acme.patch(ADAPTER, json!({ "visibility": "shared" })).await;
    resolves(&stack, &friend).await.unwrap();
}

#[tokio::test]
async fn grants_are_bounded_and_wrong_ones_named() {
    let stack = Stack::start_with(|config| config.settings.max_grants_per_adapter = 1).await;
    let (acme, ..) = shared(&stack).await;
    let put = async |to: &str, request: Value| acme.put(&format!("{ADAPTER}/grants/{to}"), request).await;
    problem(put("nobody", json!({})).await, StatusCode::NOT_FOUND, "not_found").await;
    problem(put("acme", json!({})).await, StatusCode::BAD_REQUEST, "invalid_fields").await;
    let wrong = json!({ "expires_at": "2020-01-01T00:00:00Z", "note": "x".repeat(501) });
    let answer = problem(put("friend", wrong).await, StatusCode::BAD_REQUEST, "invalid_fields").await;
    let subjects: Vec<_> = answer["errors"].as_array().unwrap().iter().map(|error| &error["subject"]).collect();
    assert_eq!(subjects, ["note", "expires_at"]);
    grant(&acme, "friend", json!({})).await;
    let refused = problem(put("rival", json!({})).await, StatusCode::CONFLICT, "too_many").await;
    assert!(refused["detail"].as_str().unwrap().contains("registry.max_grants_per_adapter is 1"), "{refused}");
    grant(&acme, "friend", json!({ "note": "the same again" })).await;
    let service = stack.key_for("acme", &["adapters:read", "adapters:write"]).await;
    let answer = service.put(&format!("{ADAPTER}/grants/friend"), json!({})).await;
    problem(answer, StatusCode::FORBIDDEN, "scope_missing").await;
}

#[tokio::test]
async fn a_page_has_own_public_gated_and_shared_ones_in_one_order_without_gap_or_repetition() {
    let stack = Stack::start().await;
    let (acme, friend, _) = shared(&stack).await;
    for (name, visibility) in
        [("a", "public"), ("b", "gated"), ("c", "private"), ("d", "shared"), ("e", "shared"), ("zz", "public")]
    {
        acme.make_adapter(name, visibility).await;
    }
    friend.make_adapter("own", "private").await;
    for name in ["d", "sst2"] {
        body(acme.put(&format!("/adapters/acme/{name}/grants/friend"), json!({})).await, StatusCode::OK).await;
    }
    let pages = async |query: &str| {
        let (mut names, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = body(friend.get(&format!("/adapters?limit=2{query}{cursor}")).await, StatusCode::OK).await;
            names.extend(
                page["data"].as_array().unwrap().iter().map(|adapter| adapter["id"].as_str().unwrap().to_owned()),
            );
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return names,
            }
        }
    };
    assert_eq!(pages("").await, ["acme/a", "acme/b", "acme/d", "acme/sst2", "acme/zz", "friend/own"]);
    assert_eq!(pages("&visibility=shared").await, ["acme/d", "acme/sst2"]);
    assert_eq!(pages("&visibility=gated").await, ["acme/b"]);
    assert_eq!(pages("&owner=acme&search=s").await, ["acme/sst2"]);
    assert_eq!(pages("&owner=friend").await, ["friend/own"]);
}

#[tokio::test]
async fn a_service_makes_no_shared_adapter_gated_whose_grants_persons_did_not_decide() {
    let stack = Stack::start().await;
    let (acme, ..) = shared(&stack).await;
    grant(&acme, "friend", json!({})).await;
    let gated = json!({ "visibility": "gated" });
    problem(acme.patch(ADAPTER, gated.clone()).await, StatusCode::FORBIDDEN, "person_needed").await;
    let (person, _) = persons_key(&stack, "acme", &["adapters:read", "adapters:write"]).await;
    assert_eq!(person.patch(ADAPTER, gated).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn two_who_change_an_adapter_at_once_both_have_what_they_changed() {
    let stack = Stack::start().await;
    let (acme, ..) = shared(&stack).await;
    for round in 0..10 {
        let back = acme.patch(ADAPTER, json!({ "visibility": "public" })).await;
        assert_eq!(back.status(), StatusCode::OK);
        let text = format!("round {round}");
        let (hidden, described) = tokio::join!(
            acme.patch(ADAPTER, json!({ "visibility": "private" })),
            acme.patch(ADAPTER, json!({ "description": text })),
        );
        assert_eq!((hidden.status(), described.status()), (StatusCode::OK, StatusCode::OK));
        let now = body(acme.get(ADAPTER).await, StatusCode::OK).await;
        assert_eq!((now["visibility"].as_str(), now["description"].as_str()), (Some("private"), Some(&*text)));
    }
}
