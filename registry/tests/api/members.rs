//! Members of tenants: how they come in, what their roles let them do, and what ends when they leave.

use reqwest::{Method, StatusCode};
use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::{Value, json};
use souk_registry::Role;

use crate::browser::{Browser, end_of, invite};
use crate::support::{Stack, body, in_haste, problem, wait_until};

async fn members(browser: &Browser) -> Vec<Value> {
    body(browser.get("/members").await, StatusCode::OK).await["data"].as_array().unwrap().clone()
}

#[tokio::test]
async fn who_opens_the_link_of_an_invitation_is_a_member_and_may_what_the_role_says() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    for role in Role::ALL {
        let browser = Browser::of_member(&stack, "acme", role.as_str()).await;
        let session = browser.session().await;
        assert_eq!(session["tenant"], json!({ "tenant": "acme", "role": role.as_str() }));
        assert_eq!(session["person"]["email"], format!("{}@example.com", role.as_str()));
        assert_eq!(session["person"]["email_is_verified"], false, "a link vouches for no address");
        let me = body(browser.get("/auth/whoami").await, StatusCode::OK).await;
        let scopes: Vec<_> = role.scopes().into_iter().map(|scope| scope.as_str()).collect();
        assert_eq!((&me["scopes"], &me["role"]), (&json!(scopes), &json!(role.as_str())));
        assert_eq!(browser.get("/adapters/acme/sst2").await.status(), StatusCode::OK);
        let made = browser.change(Method::POST, "/adapters", json!({ "name": role.as_str() })).await;
        let may_write = scopes.contains(&"adapters:write");
        assert_eq!(made.status(), if may_write { StatusCode::CREATED } else { StatusCode::FORBIDDEN }, "{role:?}");
        let listed = browser.get("/members").await.status();
        let may_manage = scopes.contains(&"tenant:manage");
        assert_eq!(listed, if may_manage { StatusCode::OK } else { StatusCode::FORBIDDEN }, "{role:?}");
    }
    let owner = Browser::of_member(&stack, "acme", "owner").await;
    assert_eq!(members(&owner).await.len(), Role::ALL.len() + 1);
    let page = body(owner.get("/members?limit=4").await, StatusCode::OK).await;
    let rest = format!("/members?limit=4&cursor={}", page["next_cursor"].as_str().unwrap());
    assert_eq!(body(owner.get(&rest).await, StatusCode::OK).await["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn of_two_who_use_one_invitation_at_once_one_becomes_a_member() {
    let first = Stack::start_with(in_haste).await;
    first.tenant("acme").await;
    let second = Stack::start_in(first.folder.clone(), in_haste).await;
    for round in 0..4 {
        let link = invite(&first, "acme", &format!("r{round}@example.com"), "viewer").await;
        let (one, other) = (Browser::new(&first), Browser::new(&second));
        let fields = [("secret", end_of(&link))];
        let (at_one, at_other) =
            tokio::join!(one.submit("/sign-in/invitation", &fields), other.submit("/sign-in/invitation", &fields));
        let mut statuses = [at_one.status().as_u16(), at_other.status().as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 410]);
        assert_ne!(one.is_signed_in().await, other.is_signed_in().await);
    }
    let count = async |query: &str| first.number(query).await;
    assert_eq!(count("SELECT count(*) AS n FROM members").await, 4);
    assert_eq!(count("SELECT count(*) AS n FROM persons").await, 4, "the second of two left nothing");
}

#[tokio::test]
async fn an_invitation_is_shown_once_and_over_when_used_taken_back_or_late() {
    let stack = Stack::start().await;
    let owner = owner_of_acme(&stack).await;
    let asked = json!({ "email": "Ada@Example.com", "role": "developer" });
    let made = body(owner.change(Method::POST, "/invitations", asked.clone()).await, StatusCode::CREATED).await;
    assert_eq!((&made["email"], &made["state"]), (&json!("ada@example.com"), &json!("open")));
    let link = made["link"].as_str().unwrap().to_owned();
    let listed = body(owner.get("/invitations").await, StatusCode::OK).await;
    assert!(!listed.to_string().contains(end_of(&link)), "the secret is nowhere else");
    let ada = Browser::new(&stack);
    // Looking at it, as what scans mails does, uses nothing up.
    for _ in 0..3 {
        let page = ada.open(&link).await;
        assert!(page.text().await.unwrap().contains("member of acme, as developer"));
    }
    ada.join(&link).await;
    for address in [link.clone(), link.replace("/inv_", "/inv_0"), format!("{link}x")] {
        let page = Browser::new(&stack).open(&address).await;
        assert!([StatusCode::NOT_FOUND, StatusCode::GONE].contains(&page.status()), "{address}");
    }
    // Ada is asked once more, and is a member already; the invitation stays open.
    let again = body(owner.change(Method::POST, "/invitations", asked.clone()).await, StatusCode::CREATED).await;
    let secret = json!({ "secret": end_of(again["link"].as_str().unwrap()) });
    let refused = ada.change(Method::POST, "/invitations/accept", secret.clone()).await;
    problem(refused, StatusCode::CONFLICT, "already_member").await;
    let path = format!("/invitations/{}", again["id"].as_str().unwrap());
    for _ in 0..2 {
        assert_eq!(owner.change(Method::DELETE, &path, Value::Null).await.status(), StatusCode::NO_CONTENT);
    }
    problem(ada.change(Method::POST, "/invitations/accept", secret).await, StatusCode::GONE, "link_over").await;
    let late = body(owner.change(Method::POST, "/invitations", asked).await, StatusCode::CREATED).await;
    let db = stack.database().await;
    let id = late["id"].as_str().unwrap();
    db.execute_unprepared(&format!("UPDATE invitations SET expires_at_ms = 1 WHERE id = '{id}'")).await.unwrap();
    let page = Browser::new(&stack).open(late["link"].as_str().unwrap()).await;
    assert_eq!(page.status(), StatusCode::GONE);
    let listed = body(owner.get("/invitations?limit=100").await, StatusCode::OK).await;
    let states: Vec<_> = listed["data"].as_array().unwrap().iter().map(|row| row["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["accepted", "accepted", "revoked", "expired"], "the owner's own is the first");
    let used = format!("/invitations/{}", made["id"].as_str().unwrap());
    problem(owner.change(Method::DELETE, &used, Value::Null).await, StatusCode::GONE, "link_over").await;
    for (email, role) in [("ada", "owner"), ("", "owner"), ("a@b.c\n", "owner")] {
        let wrong = json!({ "email": email, "role": role });
        let refused = owner.change(Method::POST, "/invitations", wrong).await;
        assert_eq!(problem(refused, StatusCode::BAD_REQUEST, "invalid_fields").await["errors"][0]["subject"], "email");
    }
    let refused = owner.change(Method::POST, "/invitations", json!({ "email": "a@b.cd", "role": "emperor" })).await;
    problem(refused, StatusCode::BAD_REQUEST, "invalid_body").await;
}

#[tokio::test]
async fn nobody_makes_somebody_who_may_more_than_they() {
    let stack = Stack::start().await;
    let owner = owner_of_acme(&stack).await;
    let viewer = Browser::of_member(&stack, "acme", "viewer").await.person().await;
    let manager = stack.key_for("acme", &["tenant:manage", "adapters:read"]).await;
    let asked = |role: &str| json!({ "email": "a@example.com", "role": role });
    for role in ["owner", "publisher", "developer", "billing"] {
        problem(manager.post("/invitations", asked(role)).await, StatusCode::FORBIDDEN, "scope_not_held").await;
        let path = format!("/members/{viewer}");
        problem(manager.patch(&path, json!({ "role": role })).await, StatusCode::FORBIDDEN, "scope_not_held").await;
    }
    assert_eq!(manager.post("/invitations", asked("viewer")).await.status(), StatusCode::CREATED);
    let path = format!("/members/{}/sign-in-link", owner.person().await);
    problem(manager.post(&path, json!({})).await, StatusCode::FORBIDDEN, "scope_not_held").await;
    assert_eq!(manager.post(&format!("/members/{viewer}/sign-in-link"), json!({})).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn the_last_owner_can_neither_leave_nor_be_lowered_nor_removed_nor_erased() {
    let first = Stack::start_with(in_haste).await;
    let owner = owner_of_acme(&first).await;
    let person = owner.person().await;
    let path = format!("/members/{person}");
    let refused = |answer| problem(answer, StatusCode::CONFLICT, "last_owner");
    refused(owner.change(Method::DELETE, "/auth/membership", Value::Null).await).await;
    refused(owner.change(Method::DELETE, &path, Value::Null).await).await;
    refused(owner.change(Method::PATCH, &path, json!({ "role": "publisher" })).await).await;
    refused(first.admin.delete(&format!("/persons/{person}")).await).await;
    assert!(owner.is_signed_in().await, "nothing was changed");
    // With another owner there are two, and of the two that leave at once one stays.
    let other = Browser::of_member(&first, "acme", "owner").await;
    let second = Stack::start_in(first.folder.clone(), in_haste).await;
    let other = other.at(&second);
    let leave = |browser: Browser| async move { browser.change(Method::DELETE, "/auth/membership", Value::Null).await };
    let (one, two) = tokio::join!(leave(owner), leave(other));
    let mut statuses = [one.status().as_u16(), two.status().as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 409]);
    assert_eq!(first.number("SELECT count(*) AS n FROM members WHERE role = 'owner'").await, 1);
}

#[tokio::test]
async fn who_is_removed_acts_nowhere_within_a_second_and_a_services_key_goes_on() {
    let first = Stack::start_with(in_haste).await;
    let service = first.tenant("acme").await;
    first.tenant("rival").await;
    let owner = Browser::of_member(&first, "acme", "owner").await;
    let member = Browser::of_member(&first, "acme", "publisher").await;
    let person = member.person().await;
    let token = first.user(&member.token().await);
    // The session goes on for another tenant, and was exchanged for a token of the first one before.
    let rivals = end_of(&invite(&first, "rival", "p@example.com", "viewer").await).to_owned();
    let joined = member.change(Method::POST, "/invitations/accept", json!({ "secret": rivals })).await;
    assert_eq!(joined.status(), StatusCode::NO_CONTENT);
    assert_eq!(member.session().await["tenant"]["tenant"], "rival");
    let link = first.admin.post(&format!("/members/{person}/sign-in-link?tenant=acme"), json!({})).await;
    let link = body(link, StatusCode::CREATED).await["link"].as_str().unwrap().to_owned();
    let second = Stack::start_in(first.folder.clone(), in_haste).await;
    let at_second = second.user(&token.key);
    for user in [&token, &at_second, &service] {
        assert_eq!(user.get("/adapters").await.status(), StatusCode::OK);
    }
    let removed = owner.change(Method::DELETE, &format!("/members/{person}"), Value::Null).await;
    assert_eq!(removed.status(), StatusCode::NO_CONTENT);
    problem(token.get("/adapters").await, StatusCode::UNAUTHORIZED, "key_revoked").await;
    problem(member.get("/auth/session").await, StatusCode::UNAUTHORIZED, "session_over").await;
    problem(member.at(&second).get("/auth/session").await, StatusCode::UNAUTHORIZED, "session_over").await;
    wait_until("the second has heard", async || at_second.get("/adapters").await.status() == StatusCode::UNAUTHORIZED)
        .await;
    let third = Stack::start_in(first.folder.clone(), in_haste).await;
    problem(third.user(&token.key).get("/adapters").await, StatusCode::UNAUTHORIZED, "key_revoked").await;
    assert_eq!(Browser::new(&first).open(&link).await.status(), StatusCode::NOT_FOUND, "nor does a link let them in");
    assert_eq!(service.get("/adapters").await.status(), StatusCode::OK);
    let again = owner.change(Method::DELETE, &format!("/members/{person}"), Value::Null).await;
    problem(again, StatusCode::NOT_FOUND, "not_found").await;
}

#[tokio::test]
async fn a_key_that_a_person_makes_is_theirs_and_ends_with_the_membership_or_the_scopes() {
    let stack = Stack::start().await;
    let owner = owner_of_acme(&stack).await;
    for end in ["removed", "lowered"] {
        let member = Browser::of_member(&stack, "acme", "owner").await;
        let make = json!({ "name": "own", "scopes": ["adapters:read", "keys:manage"] });
        let made = body(member.change(Method::POST, "/keys", make.clone()).await, StatusCode::CREATED).await;
        assert_eq!(made["made_by"], member.session().await["id"]);
        let key = stack.user(made["secret"].as_str().unwrap());
        let me = body(key.get("/auth/whoami").await, StatusCode::OK).await;
        assert_eq!(me["person"]["id"], member.person().await.as_str());
        let child = body(key.post("/keys", make.clone()).await, StatusCode::CREATED).await;
        let child = stack.user(child["secret"].as_str().unwrap());
        assert_eq!(child.get("/adapters").await.status(), StatusCode::OK);
        let wider = json!({ "name": "wider", "scopes": ["admin"] });
        let refused = member.change(Method::POST, "/keys", wider).await;
        problem(refused, StatusCode::FORBIDDEN, "scope_not_held").await;
        let path = format!("/members/{}", member.person().await);
        let ended = match end {
            "removed" => owner.change(Method::DELETE, &path, Value::Null).await,
            _ => owner.change(Method::PATCH, &path, json!({ "role": "viewer" })).await,
        };
        assert!(ended.status().is_success(), "{end}");
        for key in [&key, &child] {
            problem(key.get("/adapters").await, StatusCode::UNAUTHORIZED, "key_revoked").await;
        }
    }
}

#[tokio::test]
async fn who_loses_scopes_signs_in_again_and_who_gains_some_goes_on() {
    let stack = Stack::start().await;
    let owner = owner_of_acme(&stack).await;
    let member = Browser::of_member(&stack, "acme", "viewer").await;
    let (path, token) = (format!("/members/{}", member.person().await), stack.user(&member.token().await));
    let change = async |role: &str| {
        let changed = owner.change(Method::PATCH, &path, json!({ "role": role })).await;
        assert_eq!(body(changed, StatusCode::OK).await["role"], role);
    };
    change("developer").await;
    let me = body(member.get("/auth/whoami").await, StatusCode::OK).await;
    assert_eq!(me["scopes"], json!(["inference", "adapters:read"]));
    assert_eq!(token.get("/adapters").await.status(), StatusCode::OK);
    change("developer").await;
    assert!(member.is_signed_in().await, "the same role is no change");
    // Billing has what a developer has not, and lacks what one has.
    change("billing").await;
    problem(member.get("/auth/session").await, StatusCode::UNAUTHORIZED, "session_over").await;
    problem(token.get("/adapters").await, StatusCode::UNAUTHORIZED, "key_revoked").await;
}

#[tokio::test]
async fn members_of_another_tenant_are_not_there_but_for_an_operator_who_names_it() {
    let stack = Stack::start().await;
    let owner = owner_of_acme(&stack).await;
    stack.tenant("rival").await;
    let rival = Browser::of_member(&stack, "rival", "owner").await;
    let theirs = rival.person().await;
    let path = format!("/members/{theirs}");
    for path in [path.as_str(), "/members/per_00000000000000000000000000000000"] {
        problem(owner.change(Method::DELETE, path, Value::Null).await, StatusCode::NOT_FOUND, "not_found").await;
        let changed = owner.change(Method::PATCH, path, json!({ "role": "viewer" })).await;
        problem(changed, StatusCode::NOT_FOUND, "not_found").await;
        let link = owner.change(Method::POST, &format!("{path}/sign-in-link"), json!({})).await;
        problem(link, StatusCode::NOT_FOUND, "not_found").await;
    }
    for path in ["/members?tenant=rival", "/invitations?tenant=rival"] {
        problem(owner.get(path).await, StatusCode::FORBIDDEN, "scope_missing").await;
        assert_eq!(stack.admin.get(path).await.status(), StatusCode::OK);
    }
    let listed = body(rival.get("/invitations").await, StatusCode::OK).await;
    let id = listed["data"][0]["id"].as_str().unwrap();
    let taken = owner.change(Method::DELETE, &format!("/invitations/{id}"), Value::Null).await;
    problem(taken, StatusCode::NOT_FOUND, "not_found").await;
    let listed = body(stack.admin.get("/members?tenant=rival").await, StatusCode::OK).await;
    assert_eq!(listed["data"][0]["person"], theirs.as_str());
    problem(stack.admin.get("/members?tenant=nobody").await, StatusCode::NOT_FOUND, "not_found").await;
}

#[tokio::test]
async fn people_make_tenants_by_themselves_only_where_they_may_and_not_too_many() {
    let stack = Stack::start().await;
    let owner = owner_of_acme(&stack).await;
    let made = owner.change(Method::POST, "/auth/tenants", json!({ "name": "mine" })).await;
    problem(made, StatusCode::FORBIDDEN, "self_service_off").await;
    let stack = Stack::start_in(stack.close().await, |config| {
        config.settings.self_service = true;
        config.settings.max_tenants_per_person = 2;
    })
    .await;
    let owner = owner.at(&stack);
    let make = async |name: &str| owner.change(Method::POST, "/auth/tenants", json!({ "name": name })).await;
    problem(make("acme").await, StatusCode::CONFLICT, "already_exists").await;
    problem(make("A b").await, StatusCode::BAD_REQUEST, "invalid_fields").await;
    assert_eq!(body(make("mine").await, StatusCode::CREATED).await, json!({ "tenant": "mine", "role": "owner" }));
    assert_eq!(owner.session().await["tenant"]["tenant"], "mine");
    let detail = problem(make("third").await, StatusCode::CONFLICT, "too_many").await["detail"].to_string();
    assert!(detail.contains("registry.max_tenants_per_person is 2"), "{detail}");
}

#[tokio::test]
async fn there_are_no_more_members_than_may_be_and_who_is_asked_counts() {
    let stack = Stack::start_with(|config| config.settings.max_members_per_tenant = 2).await;
    let owner = owner_of_acme(&stack).await;
    let ask = async || owner.change(Method::POST, "/invitations", json!({ "email": "a@b.cd", "role": "viewer" })).await;
    let open = body(ask().await, StatusCode::CREATED).await;
    let detail = problem(ask().await, StatusCode::CONFLICT, "too_many").await["detail"].to_string();
    assert!(detail.contains("registry.max_members_per_tenant is 2"), "{detail}");
    let path = format!("/invitations/{}", open["id"].as_str().unwrap());
    assert_eq!(owner.change(Method::DELETE, &path, Value::Null).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(ask().await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn nothing_is_left_of_who_is_erased_but_an_id_and_no_entry_ever_had_more() {
    let stack = Stack::start().await;
    let owner = owner_of_acme(&stack).await;
    let member = Browser::of_member(&stack, "acme", "developer").await;
    let person = member.person().await;
    // One that nobody used, to the same address; and a key, which programs call after the person's machine.
    invite(&stack, "acme", "developer@example.com", "viewer").await;
    let key = json!({ "name": "adas-laptop", "scopes": ["inference"] });
    assert_eq!(member.change(Method::POST, "/keys", key).await.status(), StatusCode::CREATED);
    let path = format!("/persons/{person}");
    problem(owner.change(Method::DELETE, &path, Value::Null).await, StatusCode::FORBIDDEN, "scope_missing").await;
    assert_eq!(stack.admin.delete(&path).await.status(), StatusCode::NO_CONTENT);
    problem(stack.admin.delete(&path).await, StatusCode::NOT_FOUND, "not_found").await;
    problem(member.get("/auth/session").await, StatusCode::UNAUTHORIZED, "session_over").await;
    assert_eq!(members(&owner).await.len(), 1);
    let count = async |query: &str| stack.number(query).await;
    let of_person =
        format!("SELECT count(*) AS n FROM persons WHERE id = '{person}' AND email IS NULL AND name IS NULL");
    assert_eq!(count(&of_person).await, 1);
    assert_eq!(count("SELECT count(*) AS n FROM invitations WHERE email = 'developer@example.com'").await, 0);
    assert_eq!(
        count(&format!("SELECT count(*) AS n FROM sessions WHERE person_id = '{person}' AND client IS NOT NULL")).await,
        0
    );
    assert_eq!(count("SELECT count(*) AS n FROM api_keys WHERE name = 'adas-laptop'").await, 0);
    let db = stack.database().await;
    let query = Statement::from_string(db.get_database_backend(), "SELECT action, subject, details FROM audit_entries");
    let mut actions = Vec::new();
    for row in db.query_all_raw(query).await.unwrap() {
        let text = |name: &str| row.try_get::<String>("", name).unwrap();
        assert!(!format!("{}{}", text("subject"), text("details")).contains('@'), "{}", text("details"));
        actions.push(text("action"));
    }
    for action in ["invitation.created", "member.joined", "member.erased", "person.erased"] {
        assert!(actions.iter().any(|given| given == action), "{action} is not in {actions:?}");
    }
}

#[tokio::test]
async fn nobody_comes_back_by_what_they_made_before_they_were_removed() {
    let stack = Stack::start().await;
    let owner = owner_of_acme(&stack).await;
    let leaving = Browser::of_member(&stack, "acme", "owner").await;
    let asked = json!({ "email": "again@example.com", "role": "owner" });
    let made = body(leaving.change(Method::POST, "/invitations", asked.clone()).await, StatusCode::CREATED).await;
    let other = owner.person().await;
    let link = leaving.change(Method::POST, &format!("/members/{other}/sign-in-link"), json!({})).await;
    let link = body(link, StatusCode::CREATED).await["link"].as_str().unwrap().to_owned();
    let kept = body(owner.change(Method::POST, "/invitations", asked).await, StatusCode::CREATED).await;
    let person = leaving.person().await;
    let removed = owner.change(Method::DELETE, &format!("/members/{person}"), Value::Null).await;
    assert_eq!(removed.status(), StatusCode::NO_CONTENT);
    let opened = async |address: &str| Browser::new(&stack).open(address).await.status();
    assert_eq!(opened(made["link"].as_str().unwrap()).await, StatusCode::GONE);
    assert_eq!(opened(&link).await, StatusCode::NOT_FOUND);
    assert_eq!(opened(kept["link"].as_str().unwrap()).await, StatusCode::OK, "others' stay");
    assert_eq!(stack.num_audited("invitation.revoked", made["id"].as_str().unwrap(), "\"left\"").await, 1);
}

#[tokio::test]
async fn what_was_made_with_a_key_that_is_revoked_lets_nobody_in() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let manager = stack.key_for("acme", &["tenant:manage", "adapters:read"]).await;
    let asked = json!({ "email": "a@example.com", "role": "viewer" });
    let made = body(manager.post("/invitations", asked).await, StatusCode::CREATED).await;
    let viewer = Browser::of_member(&stack, "acme", "viewer").await.person().await;
    let link = manager.post(&format!("/members/{viewer}/sign-in-link"), json!({})).await;
    let link = body(link, StatusCode::CREATED).await["link"].as_str().unwrap().to_owned();
    let id = stack.principal(&manager).await.key;
    assert_eq!(acme.delete(&format!("/keys/{id}")).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(Browser::new(&stack).open(made["link"].as_str().unwrap()).await.status(), StatusCode::GONE);
    assert_eq!(Browser::new(&stack).open(&link).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_the_caller_may_is_looked_at_once_more_where_it_is_done() {
    let stack = Stack::start().await;
    stack.tenant("acme").await;
    let manager = stack.key_for("acme", &["tenant:manage", "adapters:read"]).await;
    let token = body(manager.post("/auth/token", json!({})).await, StatusCode::OK).await;
    let token = stack.user(token["access_token"].as_str().unwrap());
    // As if it were revoked between the look at the token and the transaction.
    let id = stack.principal(&manager).await.key;
    let db = stack.database().await;
    db.execute_unprepared(&format!("UPDATE api_keys SET revoked_at_ms = 1 WHERE id = '{id}'")).await.unwrap();
    let asked = json!({ "email": "a@example.com", "role": "viewer" });
    problem(token.post("/invitations", asked).await, StatusCode::UNAUTHORIZED, "key_revoked").await;
    problem(token.put("/policy", json!({})).await, StatusCode::UNAUTHORIZED, "key_revoked").await;
    assert_eq!(stack.number("SELECT count(*) AS n FROM invitations").await, 0);
    assert_eq!(stack.number("SELECT count(*) AS n FROM tenant_policies").await, 0);
}

async fn owner_of_acme(stack: &Stack) -> Browser {
    stack.tenant("acme").await;
    Browser::of_member(stack, "acme", "owner").await
}
