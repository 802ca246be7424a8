//! What tenants, teams, members and keys may use: how it is set, shown, and told to gateways.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use souk_protocol::limits::{LimitTree, Mode, Policy};
use souk_protocol::{KeyId, PersonId, Principal};
use souk_registry::WarmCatalog;

use crate::browser::{Browser, key_of};
use crate::support::{Stack, User, body, problem};
use crate::teams::{manager, team};

pub(crate) async fn set(user: &User, path: &str, limits: Value) -> Value {
    body(user.patch(&format!("/limits/{path}"), json!({ "limits": limits })).await, StatusCode::OK).await
}

pub(crate) async fn set_tenants(stack: &Stack, limits: Value) -> Value {
    body(stack.admin.patch("/tenants/acme/limits", json!({ "limits": limits })).await, StatusCode::OK).await
}

/// The id of a new service's key.
pub(crate) async fn key(user: &User, team: Option<&str>) -> (String, String) {
    let request = json!({ "name": "k", "scopes": ["inference"], "kind": "service", "team": team });
    let made = body(user.post("/keys", request).await, StatusCode::CREATED).await;
    (made["id"].as_str().unwrap().to_owned(), made["secret"].as_str().unwrap().to_owned())
}

async fn listed(user: &User) -> Vec<Value> {
    let page = body(user.get("/limits?limit=100").await, StatusCode::OK).await;
    page["data"].as_array().unwrap().clone()
}

/// The levels of a tree with the values of one policy.
fn values(tree: &LimitTree, policy: Policy) -> Vec<(&'static str, Option<u64>)> {
    let value = |level: &souk_protocol::LevelLimits| level.limits.get(&policy).map(|limit| limit.value);
    tree.levels.iter().map(|level| (level.subject.level(), value(level))).collect()
}

#[tokio::test]
async fn what_is_set_is_shown_broadest_first_null_takes_it_away_and_what_is_absent_stays() {
    let stack = Stack::start_with(|config| {
        config.limits.requests_per_minute = 600;
        config.limits.tokens_per_day = 5000;
    })
    .await;
    stack.tenant("acme").await;
    let acme = manager(&stack, "acme").await;
    let (search, (id, _)) = (team(&acme, "search").await, key(&acme, None).await);
    let person = Browser::of_member(&stack, "acme", "developer").await.person().await;
    set_tenants(&stack, json!({ "tokens_per_day": { "value": 9000, "soft": 8000 } })).await;
    for path in [format!("key/{id}"), format!("member/{person}"), format!("team/{search}")] {
        let limits =
            json!({ "tokens_per_day": { "value": 100 }, "requests_per_minute": { "value": 0, "mode": "shadow" } });
        set(&acme, &path, limits).await;
    }
    let all = listed(&acme).await;
    let levels: Vec<_> = all.iter().map(|one| one["level"].as_str().unwrap()).collect();
    assert_eq!(levels, ["tenant", "team", "member", "key"]);
    let tenant = &all[0];
    assert_eq!((&tenant["name"], &tenant["tenant"]["gate_weight"]), (&json!("acme"), &json!(1)));
    let own = &tenant["limits"]["tokens_per_day"];
    assert_eq!((&own["value"], &own["soft"], &own["is_default"]), (&json!(9000), &json!(8000), &json!(false)));
    assert!(own["resets_at"].as_str().unwrap().ends_with("T00:00:00Z"), "{own}");
    let default = &tenant["limits"]["requests_per_minute"];
    assert_eq!((&default["value"], &default["is_default"]), (&json!(600), &json!(true)));
    assert!(default["resets_at"].is_null());
    assert_eq!((&all[3]["subject"], &all[3]["tenant"]), (&json!(id), &Value::Null));
    assert_eq!(all[3]["limits"]["requests_per_minute"]["mode"], "shadow");

    let changed = set(&acme, &format!("key/{id}"), json!({ "tokens_per_day": null })).await;
    assert_eq!(changed["limits"].as_object().unwrap().keys().collect::<Vec<_>>(), ["requests_per_minute"]);
    let shown = body(acme.get(&format!("/limits/key/{id}")).await, StatusCode::OK).await;
    assert_eq!(shown, changed);
    set(&acme, &format!("key/{id}"), json!({ "requests_per_minute": null })).await;
    assert_eq!(listed(&acme).await.len(), 3, "who has none is not listed");
    // The tenant falls back to the installation's default.
    let tenant = set_tenants(&stack, json!({ "tokens_per_day": null })).await;
    assert_eq!(tenant["limits"]["tokens_per_day"]["value"], 5000);
    assert_eq!(tenant["limits"]["tokens_per_day"]["is_default"], true);
}

#[tokio::test]
async fn wrong_numbers_are_refused_by_name_all_at_once_and_nothing_is_set() {
    let stack = Stack::start().await;
    stack.tenant("acme").await;
    let acme = manager(&stack, "acme").await;
    let (id, _) = key(&acme, None).await;
    let limits = json!({ "limits": {
        "tokens_per_day": { "value": -1 }, "tokens_per_month": { "value": 1.5 }, "tokens_per_year": { "value": 1 },
        "requests_per_minute": { "value": 60, "soft": 50 }, "versions_per_day": { "value": 3, "soft": 4 },
        "input_tokens_per_minute": { "value": 1 },
    } });
    for (who, path) in [(&acme, format!("/limits/key/{id}")), (&stack.admin, "/tenants/acme/limits".to_owned())] {
        let refused = problem(who.patch(&path, limits.clone()).await, StatusCode::BAD_REQUEST, "invalid_fields").await;
        let told: Vec<_> =
            refused["errors"].as_array().unwrap().iter().map(|one| one["subject"].as_str().unwrap()).collect();
        let expected = [
            "limits.requests_per_minute.soft",
            "limits.tokens_per_day.value",
            "limits.tokens_per_month.value",
            "limits.tokens_per_year",
            "limits.versions_per_day.soft",
        ];
        assert_eq!(told, expected);
        assert!(refused["errors"][1]["message"].as_str().unwrap().contains("given -1"), "{refused}");
    }
    let weight = stack.admin.patch("/tenants/acme/limits", json!({ "gate_weight": 17 })).await;
    problem(weight, StatusCode::BAD_REQUEST, "invalid_fields").await;
    let ceiling = acme.patch("/limits/answers", json!({ "output_ceiling": 0 })).await;
    problem(ceiling, StatusCode::BAD_REQUEST, "invalid_fields").await;
    assert_eq!(stack.number("SELECT count(*) AS n FROM limits").await, 0);
    assert_eq!(stack.number("SELECT count(*) AS n FROM tenant_limits").await, 0);
    let no_level = acme.patch(&format!("/limits/tenant/{id}"), json!({ "limits": {} })).await;
    let refused = problem(no_level, StatusCode::BAD_REQUEST, "invalid_path").await;
    assert!(refused["detail"].as_str().unwrap().contains("PATCH /tenants/{tenant}/limits"), "{refused}");
}

#[tokio::test]
async fn whose_they_are_not_learns_nothing_of_them() {
    let stack = Stack::start().await;
    stack.tenant("acme").await;
    stack.tenant("rival").await;
    let (acme, rival) = (manager(&stack, "acme").await, manager(&stack, "rival").await);
    let (id, _) = key(&rival, None).await;
    let operators = stack.key_for("acme", &["admin"]).await;
    let operators = stack.principal(&operators).await.key.to_string();
    let asked = async |level: &str, subject: &str| {
        let mut answers = Vec::new();
        for method in [Method::GET, Method::PATCH] {
            let path = format!("/limits/{level}/{subject}");
            let limits = json!({ "limits": { "tokens_per_day": { "value": 1 } } });
            let answer = acme.request(method, &path).json(&limits).send().await.unwrap();
            answers.push((answer.status(), answer.text().await.unwrap().replace(subject, "it")));
        }
        answers
    };
    let absent = asked("key", "000000000000").await;
    assert!(absent.iter().all(|(status, _)| *status == StatusCode::NOT_FOUND), "{absent:?}");
    assert_eq!(asked("key", &id).await, absent, "another tenant's");
    assert_eq!(asked("key", &operators).await, absent, "an operator's, which lists of keys do not have either");
    let member = Browser::of_member(&stack, "rival", "developer").await.person().await;
    assert_eq!(asked("member", &member).await, asked("member", "per_0").await);
    // What is the operator's to set is refused by scope.
    let limits = json!({ "limits": { "tokens_per_day": { "value": 1 } }, "gate_weight": 16 });
    problem(acme.patch("/tenants/acme/limits", limits).await, StatusCode::FORBIDDEN, "scope_missing").await;
    problem(acme.get("/limits?tenant=rival").await, StatusCode::FORBIDDEN, "scope_missing").await;
    let keys_alone = stack.key_for("acme", &["keys:manage"]).await;
    problem(keys_alone.get("/limits").await, StatusCode::FORBIDDEN, "scope_missing").await;
}

#[tokio::test]
async fn a_limit_beyond_one_above_is_refused_with_both_and_one_above_may_be_lowered() {
    let stack = Stack::start_with(|config| config.limits.versions_per_day = 10).await;
    stack.tenant("acme").await;
    let acme = manager(&stack, "acme").await;
    let search = team(&acme, "search").await;
    let (id, _) = key(&acme, Some(&search)).await;
    set_tenants(&stack, json!({ "tokens_per_day": { "value": 1000 } })).await;
    let beyond = async |path: &str, name: &str, value: u64| {
        let limits = json!({ "limits": { name: { "value": value } } });
        let answer = acme.patch(&format!("/limits/{path}"), limits).await;
        problem(answer, StatusCode::CONFLICT, "beyond_level_above").await["detail"].as_str().unwrap().to_owned()
    };
    let (of_team, of_key) = (format!("team/{search}"), format!("key/{id}"));
    let told = beyond(&of_team, "tokens_per_day", 1001).await;
    assert!(told.contains("`tokens_per_day` of this team cannot be 1001, since its tenant has 1000"), "{told}");
    set(&acme, &of_team, json!({ "tokens_per_day": { "value": 500 } })).await;
    let told = beyond(&of_key, "tokens_per_day", 501).await;
    assert!(told.contains("of this key cannot be 501, since its team has 500"), "{told}");
    let told = beyond(&of_key, "versions_per_day", 11).await;
    assert!(told.contains("since its tenant has 10"), "a default of the installation binds, too: {told}");
    set(&acme, &of_key, json!({ "tokens_per_day": { "value": 500 }, "versions_per_day": { "value": 10 } })).await;
    // What is tried in shadow mode binds nobody.
    set_tenants(&stack, json!({ "tokens_per_month": { "value": 1000, "mode": "shadow" } })).await;
    set(&acme, &of_team, json!({ "tokens_per_month": { "value": 2000 } })).await;
    // Both are bound by it from now on.
    set_tenants(&stack, json!({ "tokens_per_day": { "value": 7 } })).await;
    let all = listed(&acme).await;
    let days: Vec<_> = all.iter().map(|one| one["limits"]["tokens_per_day"]["value"].clone()).collect();
    assert_eq!(days, [json!(7), json!(500), json!(500)]);
}

#[tokio::test]
async fn limits_go_with_whose_they_are_and_stay_with_a_key_and_the_one_that_takes_its_place() {
    let stack = Stack::start().await;
    stack.tenant("acme").await;
    let acme = manager(&stack, "acme").await;
    let one = json!({ "tokens_per_day": { "value": 1 } });
    let search = team(&acme, "search").await;
    set(&acme, &format!("team/{search}"), one.clone()).await;
    let (id, _) = key(&acme, Some(&search)).await;
    set(&acme, &format!("key/{id}"), one.clone()).await;
    let mut persons = Vec::new();
    for role in ["developer", "viewer"] {
        let person = Browser::of_member(&stack, "acme", role).await.person().await;
        set(&acme, &format!("member/{person}"), one.clone()).await;
        persons.push(person);
    }
    assert_eq!(acme.delete(&format!("/members/{}", persons[0])).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(stack.admin.delete(&format!("/persons/{}", persons[1])).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(acme.delete(&format!("/teams/{search}")).await.status(), StatusCode::NO_CONTENT);
    let other = team(&acme, "ads").await;
    let (second, _) = key(&acme, Some(&other)).await;
    set(&acme, &format!("key/{second}"), one).await;
    let rotated = acme.post(&format!("/keys/{second}/rotate"), json!({ "overlap_s": 0 })).await;
    let successor = body(rotated, StatusCode::CREATED).await;
    assert_eq!(successor["team"], json!(other));
    assert_eq!(acme.delete(&format!("/keys/{id}")).await.status(), StatusCode::NO_CONTENT);
    let mut left: Vec<_> =
        listed(&acme).await[1..].iter().map(|one| one["subject"].as_str().unwrap().to_owned()).collect();
    let mut expected = [id, second, successor["id"].as_str().unwrap().to_owned()];
    left.sort_unstable();
    expected.sort_unstable();
    assert_eq!(left, expected);
}

#[tokio::test]
async fn a_caller_is_bound_by_its_tenant_its_team_itself_and_its_key_and_every_change_counts_at_once() {
    let stack = Stack::start_with(|config| config.limits.output_ceiling = 4096).await;
    stack.tenant("acme").await;
    let acme = manager(&stack, "acme").await;
    let warm = WarmCatalog::new(stack.registry.clone(), std::time::Duration::ZERO);
    let tree = async |principal: &Principal| warm.limits(principal).await.unwrap();
    let browser = Browser::of_member(&stack, "acme", "developer").await;
    let person = PersonId::from_stored(browser.person().await);
    let personal = stack.principal(&key_of(&stack, "acme", &["inference"], &person).await).await;
    let session = stack.registry.authenticate(&browser.token().await).await.unwrap();
    assert!(session.key.as_str().starts_with("ses_"));
    let (search, ads) = (team(&acme, "search").await, team(&acme, "ads").await);
    let (_, secret) = key(&acme, Some(&ads)).await;
    let service = stack.principal(&stack.user(&secret)).await;
    let none = |levels: &[&'static str]| levels.iter().map(|level| (*level, None)).collect::<Vec<_>>();
    let day = Policy::TokensPerDay;
    assert_eq!(values(&tree(&personal).await.unwrap(), day), none(&["tenant", "member", "key"]));
    assert_eq!(values(&tree(&session).await.unwrap(), day), none(&["tenant", "member"]), "a session is no level");
    assert_eq!(values(&tree(&service).await.unwrap(), day), none(&["tenant", "team", "key"]));

    acme.request(Method::PUT, &format!("/teams/{search}/members/{person}")).send().await.unwrap();
    set_tenants(&stack, json!({ "tokens_per_day": { "value": 1000 } })).await;
    set(&acme, &format!("team/{search}"), json!({ "tokens_per_day": { "value": 100, "soft": 50, "mode": "shadow" } }))
        .await;
    set(&acme, &format!("member/{person}"), json!({ "tokens_per_day": { "value": 10 } })).await;
    set(&acme, &format!("key/{}", personal.key), json!({ "tokens_per_day": { "value": 1 } })).await;
    let of_personal = tree(&personal).await.unwrap();
    let expected = [("tenant", Some(1000)), ("team", Some(100)), ("member", Some(10)), ("key", Some(1))];
    assert_eq!(values(&of_personal, day), expected);
    let of_team = of_personal.levels[1].limits[&day];
    assert_eq!((of_team.soft, of_team.mode), (Some(50), Mode::Shadow));
    assert_eq!(of_personal.team().unwrap().as_str(), search);
    assert_eq!(values(&tree(&session).await.unwrap(), day), expected[..3]);
    assert_eq!(
        (of_personal.output_ceiling, of_personal.keeps_answers, of_personal.gate_weight),
        (Some(4096), false, 1)
    );

    let answers = json!({ "output_ceiling": 64, "keeps_answers": true });
    body(acme.patch("/limits/answers", answers).await, StatusCode::OK).await;
    body(stack.admin.patch("/tenants/acme/limits", json!({ "gate_weight": 16 })).await, StatusCode::OK).await;
    let now = tree(&service).await.unwrap();
    assert_eq!((now.output_ceiling, now.keeps_answers, now.gate_weight), (Some(64), true, 16));
    body(acme.patch("/limits/answers", json!({ "output_ceiling": null })).await, StatusCode::OK).await;
    let now = tree(&service).await.unwrap();
    assert_eq!((now.output_ceiling, now.keeps_answers), (Some(4096), true), "what is absent stays");

    assert_eq!(acme.delete(&format!("/members/{person}")).await.status(), StatusCode::NO_CONTENT);
    assert!(tree(&personal).await.is_none() && tree(&session).await.is_none(), "who has left is gone");
    let unknown = Principal { key: KeyId::from_stored("000000000000"), ..service };
    assert!(tree(&unknown).await.is_none());
}

#[tokio::test]
async fn two_who_set_different_limits_at_once_both_have_theirs() {
    let stack = Stack::start().await;
    stack.tenant("acme").await;
    let acme = manager(&stack, "acme").await;
    let (id, _) = key(&acme, None).await;
    let path = format!("/limits/key/{id}");
    let sets = Policy::ALL.map(|policy| acme.patch(&path, json!({ "limits": { policy.as_str(): { "value": 5 } } })));
    for answer in futures::future::join_all(sets.map(Box::pin)).await {
        assert!([StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE].contains(&answer.status()), "{}", answer.status());
    }
    let set = body(acme.get(&path).await, StatusCode::OK).await;
    assert_eq!(set["limits"].as_object().unwrap().len(), Policy::ALL.len());
}
