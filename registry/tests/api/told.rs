//! Who changed what, where `audit` does not go: what a person does with a session, and which test has each of the others.

use std::collections::BTreeSet;
use std::path::Path;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use souk_registry::{Action, RULES};

use crate::browser::{Browser, end_of, invite};
use crate::login::{self, VERIFIER};
use crate::support::{Stack, body};

const OF_UPLOADS: &str = "one_that_is_begun_ended_or_completed_leaves_an_entry_each";
const OF_ACCESS: &str = "every_act_leaves_one_entry_in_the_chain_of_whose_act_it_is_and_a_refused_one_none";
const OF_LEAKS: &str = "a_key_that_is_shown_ends_with_what_was_made_with_it_and_its_tenant_is_told_once";
const OF_SESSIONS: &str =
    "what_a_person_does_with_a_session_is_told_in_the_chain_of_the_tenant_and_what_is_theirs_is_not";

/// What changes something and is not among the changes of `audit`, with the test that looks at its entries.
pub(crate) const ELSEWHERE: [(Action, &str); 20] = [
    (Action::BeginUpload, OF_UPLOADS),
    (Action::AddressParts, OF_UPLOADS),
    (Action::CompleteUpload, OF_UPLOADS),
    (Action::AbortUpload, OF_UPLOADS),
    (Action::SetGate, OF_ACCESS),
    (Action::PutGrant, OF_ACCESS),
    (Action::DeleteGrant, OF_ACCESS),
    (Action::RequestAccess, OF_ACCESS),
    (Action::WithdrawAccessRequest, OF_ACCESS),
    (Action::ApproveAccess, OF_ACCESS),
    (Action::RejectAccess, OF_ACCESS),
    (Action::RevokeAccess, OF_ACCESS),
    (Action::ReportLeakedKeys, OF_LEAKS),
    (Action::FinishLogin, OF_SESSIONS),
    (Action::SignOut, OF_SESSIONS),
    (Action::EndSession, OF_SESSIONS),
    (Action::ChooseTenant, OF_SESSIONS),
    (Action::MakeOwnTenant, OF_SESSIONS),
    (Action::LeaveTenant, OF_SESSIONS),
    (Action::AcceptInvitation, OF_SESSIONS),
];

/// What the chain of a tenant says of persons: action, person, session, subject and what else it tells, oldest first.
async fn told(stack: &Stack, tenant: &str) -> Vec<(String, [Value; 3], Value)> {
    let page = body(stack.admin.get(&format!("/audit?tenant={tenant}&limit=100")).await, StatusCode::OK).await;
    let entries = page["data"].as_array().unwrap().iter().rev().filter(|entry| entry["actor"]["kind"] == "person");
    let shown = |entry: &Value| {
        let who = [&entry["actor"]["id"], &entry["actor"]["key"], &entry["subject"]].map(Clone::clone);
        (entry["action"].as_str().unwrap().to_owned(), who, entry["details"].clone())
    };
    entries.map(shown).collect()
}

/// The id of the last invitation of a tenant.
async fn invitation(stack: &Stack, tenant: &str) -> Value {
    let page = body(stack.admin.get(&format!("/invitations?tenant={tenant}&limit=100")).await, StatusCode::OK).await;
    page["data"].as_array().unwrap().last().unwrap()["id"].clone()
}

#[tokio::test]
async fn what_a_person_does_with_a_session_is_told_in_the_chain_of_the_tenant_and_what_is_theirs_is_not() {
    let stack = Stack::start_with(|config| config.settings.self_service = true).await;
    stack.tenant("acme").await;
    stack.tenant("rival").await;
    let member = Browser::of_member(&stack, "acme", "developer").await;
    let session = member.session().await;
    let (person, session) = (&session["person"]["id"], &session["id"]);
    let act = |action: &str, session: &Value, subject: &Value, details: Value| {
        (action.to_owned(), [person, session, subject].map(Clone::clone), details)
    };
    let joined = act(
        "member.joined",
        session,
        person,
        json!({ "role": "developer", "invitation": invitation(&stack, "acme").await }),
    );
    assert_eq!(told(&stack, "acme").await, std::slice::from_ref(&joined));

    // A program is let have a key, which is told when it is made.
    let code = login::code_in(&login::allow(&member).await);
    let made = body(login::exchange(&stack, &code, VERIFIER).await, StatusCode::CREATED).await;
    let of_acme = told(&stack, "acme").await;
    let (action, who, details) = &of_acme[1];
    assert_eq!((action.as_str(), who), ("key.created", &[person, session, &made["id"]].map(Clone::clone)));
    assert_eq!((&details["person"], of_acme.len()), (person, 2));

    let link = invite(&stack, "rival", "d@example.com", "viewer").await;
    let secret = json!({ "secret": end_of(&link) });
    let answer = member.change(Method::POST, "/invitations/accept", secret).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    let came = json!({ "role": "viewer", "invitation": invitation(&stack, "rival").await });
    let came = act("member.joined", session, person, came);
    assert_eq!(told(&stack, "rival").await, std::slice::from_ref(&came));

    let answer = member.change(Method::POST, "/auth/tenants", json!({ "name": "mine" })).await;
    body(answer, StatusCode::CREATED).await;
    let tenants = body(stack.admin.get("/tenants?limit=100").await, StatusCode::OK).await;
    let mine = &tenants["data"].as_array().unwrap().iter().find(|tenant| tenant["name"] == "mine").unwrap()["id"];
    let of_mine = [
        act("tenant.created", session, mine, json!({})),
        act("member.joined", session, person, json!({ "role": "owner" })),
    ];
    assert_eq!(told(&stack, "mine").await, of_mine);

    // Which tenant a session acts for, and which sessions there are, is nobody else's.
    let by_link = async || {
        let path = format!("/members/{}/sign-in-link?tenant=rival", person.as_str().unwrap());
        let link = body(stack.admin.post(&path, json!({})).await, StatusCode::CREATED).await;
        let browser = Browser::new(&stack);
        browser.sign_in(link["link"].as_str().unwrap()).await;
        browser
    };
    let (one, other) = (by_link().await, by_link().await);
    let ended = format!("/auth/sessions/{}", one.session().await["id"].as_str().unwrap());
    for (browser, method, path, request) in [
        (&member, Method::POST, "/auth/session/tenant", json!({ "tenant": "rival" })),
        (&member, Method::DELETE, &ended, Value::Null),
        (&other, Method::DELETE, "/auth/session", Value::Null),
    ] {
        let answer = browser.change(method, path, request).await;
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
    }
    assert_eq!(told(&stack, "rival").await, std::slice::from_ref(&came));

    let answer = member.change(Method::DELETE, "/auth/membership", Value::Null).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    let left = told(&stack, "rival").await;
    assert_eq!(left[..1], [came]);
    assert_eq!(
        (left[1].0.as_str(), &left[1].1, left.len()),
        ("member.left", &[person, session, person].map(Clone::clone), 2)
    );
    assert_eq!((told(&stack, "acme").await, told(&stack, "mine").await), (of_acme, of_mine.to_vec()));
    assert_eq!(stack.number("SELECT count(*) AS n FROM audit_entries WHERE actor_kind = 'person'").await, 6);
}

#[test]
fn what_audit_leaves_out_changes_something_and_has_a_test_that_is_there() {
    let mut tests = String::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            tests.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
    let mut named = BTreeSet::new();
    for (action, test) in ELSEWHERE {
        assert!(named.insert(format!("{action:?}")), "{action:?} is there twice");
        assert!(RULES.iter().any(|rule| rule.action == action && rule.method != "GET"), "{action:?} changes nothing");
        assert!(
            tests.contains(&format!("#[tokio::test]\nasync fn {test}() {{")),
            "{action:?}: there is no test {test}"
        );
    }
}
