//! Teams: who is of one, and what becomes of that.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::browser::{Browser, key_of};
use crate::support::{Stack, User, body, problem};

/// Who manages the tenant and may make keys.
pub(crate) async fn manager(stack: &Stack, tenant: &str) -> User {
    stack.key_for(tenant, &["inference", "adapters:read", "keys:manage", "tenant:manage"]).await
}

/// The id of a new team.
pub(crate) async fn team(manager: &User, name: &str) -> String {
    let made = body(manager.post("/teams", json!({ "name": name })).await, StatusCode::CREATED).await;
    made["id"].as_str().unwrap().to_owned()
}

/// The team of the one member of a tenant.
async fn team_of_member(manager: &User) -> Value {
    body(manager.get("/members").await, StatusCode::OK).await["data"][0]["team"].clone()
}

#[tokio::test]
async fn a_member_is_of_one_team_at_a_time_and_of_none_when_it_is_deleted() {
    let stack = Stack::start().await;
    stack.tenant("acme").await;
    let acme = manager(&stack, "acme").await;
    let person = Browser::of_member(&stack, "acme", "developer").await.person().await;
    let (search, ads) = (team(&acme, "search").await, team(&acme, "ads").await);
    let listed = body(acme.get("/teams").await, StatusCode::OK).await;
    let names: Vec<_> = listed["data"].as_array().unwrap().iter().map(|team| team["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ads", "search"]);
    let of = |team: &str| format!("/teams/{team}/members/{person}");
    assert_eq!(team_of_member(&acme).await, Value::Null);
    for team in [&search, &search, &ads] {
        assert_eq!(acme.request(Method::PUT, &of(team)).send().await.unwrap().status(), StatusCode::NO_CONTENT);
        assert_eq!(team_of_member(&acme).await, json!(team));
    }
    // Of the one that it has left it is no member.
    problem(acme.delete(&of(&search)).await, StatusCode::NOT_FOUND, "not_found").await;
    assert_eq!(acme.delete(&of(&ads)).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(team_of_member(&acme).await, Value::Null);
    acme.request(Method::PUT, &of(&ads)).send().await.unwrap();
    let key = json!({ "name": "k", "scopes": ["inference"], "kind": "service", "team": ads });
    let key = body(acme.post("/keys", key).await, StatusCode::CREATED).await;
    assert_eq!(key["team"], json!(ads));
    assert_eq!(acme.delete(&format!("/teams/{ads}")).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(team_of_member(&acme).await, Value::Null);
    let keys = body(acme.get("/keys").await, StatusCode::OK).await;
    let key = keys["data"].as_array().unwrap().iter().find(|one| one["id"] == key["id"]).unwrap();
    assert!(key["team"].is_null() && key["revoked_at"].is_null(), "the key goes on: {key}");
    problem(acme.delete(&format!("/teams/{ads}")).await, StatusCode::NOT_FOUND, "not_found").await;
    // A name is free again, under another id.
    assert_ne!(team(&acme, "ads").await, ads);
}

#[tokio::test]
async fn another_tenants_team_is_told_apart_from_none_by_nothing() {
    let stack = Stack::start().await;
    stack.tenant("acme").await;
    stack.tenant("rival").await;
    let (acme, rival) = (manager(&stack, "acme").await, manager(&stack, "rival").await);
    let theirs = team(&rival, "search").await;
    let person = Browser::of_member(&stack, "acme", "developer").await.person().await;
    let asked = async |team: &str| {
        let mut answers = Vec::new();
        for (method, path) in [
            (Method::DELETE, format!("/teams/{team}")),
            (Method::PUT, format!("/teams/{team}/members/{person}")),
            (Method::DELETE, format!("/teams/{team}/members/{person}")),
            (Method::GET, format!("/limits/team/{team}")),
            (Method::PATCH, format!("/limits/team/{team}")),
        ] {
            let request = acme.request(method, &path).json(&json!({ "limits": {} }));
            let answer = request.send().await.unwrap();
            answers.push((answer.status(), answer.text().await.unwrap().replace(team, "team")));
        }
        let key = json!({ "name": "k", "scopes": ["inference"], "kind": "service", "team": team });
        let answer = acme.post("/keys", key).await;
        answers.push((answer.status(), answer.text().await.unwrap().replace(team, "team")));
        answers
    };
    let of_other = asked(&theirs).await;
    assert!(of_other.iter().all(|(status, _)| *status == StatusCode::NOT_FOUND), "{of_other:?}");
    assert_eq!(of_other, asked("team_0190f0e0a0b07c0d8e0f0a0b0c0d0e0f").await);
    let listed = body(acme.get("/teams").await, StatusCode::OK).await;
    assert_eq!(listed["data"], json!([]));
    // An operator names the tenant.
    assert_eq!(stack.admin.delete(&format!("/teams/{theirs}?tenant=rival")).await.status(), StatusCode::NO_CONTENT);
    problem(acme.get("/teams?tenant=rival").await, StatusCode::FORBIDDEN, "scope_missing").await;
}

#[tokio::test]
async fn names_are_unique_within_a_tenant_and_teams_are_as_many_as_the_settings_let() {
    let stack = Stack::start_with(|config| config.settings.max_teams_per_tenant = 2).await;
    stack.tenant("acme").await;
    stack.tenant("rival").await;
    let (acme, rival) = (manager(&stack, "acme").await, manager(&stack, "rival").await);
    team(&acme, "search").await;
    team(&rival, "search").await;
    let named = async |name: &str| acme.post("/teams", json!({ "name": name })).await;
    problem(named("search").await, StatusCode::CONFLICT, "already_exists").await;
    problem(named("Search and ads").await, StatusCode::BAD_REQUEST, "invalid_fields").await;
    team(&acme, "ads").await;
    let refused = problem(named("sales").await, StatusCode::CONFLICT, "too_many").await;
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("registry.max_teams_per_tenant is 2"), "{detail}");
}

#[tokio::test]
async fn a_personal_key_is_of_its_persons_team_and_takes_none_of_its_own() {
    let stack = Stack::start().await;
    stack.tenant("acme").await;
    let acme = manager(&stack, "acme").await;
    let search = team(&acme, "search").await;
    let browser = Browser::of_member(&stack, "acme", "developer").await;
    let person = souk_protocol::PersonId::from_stored(browser.person().await);
    let own = key_of(&stack, "acme", &["inference"], &person).await;
    let key = json!({ "name": "k", "scopes": ["inference"], "kind": "personal", "team": search });
    let refused = problem(own.post("/keys", key).await, StatusCode::BAD_REQUEST, "invalid_fields").await;
    assert_eq!(refused["errors"][0]["subject"], "team");
}
