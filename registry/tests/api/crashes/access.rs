//! Changes of who may call a gated adapter.

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use souk_registry::Action;

use super::change::Change;
use super::{Field, listed, num_with, people};
use crate::support::body;

pub(super) const ACTIONS: [Action; 8] = [
    Action::SetGate,
    Action::PutGrant,
    Action::DeleteGrant,
    Action::RequestAccess,
    Action::ApproveAccess,
    Action::RejectAccess,
    Action::RevokeAccess,
    Action::WithdrawAccessRequest,
];

/// The tenant that asks.
const ASKER: &str = "asker";
/// A person of acme's.
const DECIDER: &str = "decider";

pub(super) async fn prepare(change: Change, field: &mut Field) {
    if !field.keys.contains_key(ASKER) {
        let asker = field.make_tenant(ASKER).await;
        field.keys.insert(ASKER, asker);
        let decider = decider(field).await;
        field.keys.insert(DECIDER, decider);
    }
    let (acme, decider, name) = (field.acme(), field.user(DECIDER), change.name());
    acme.make_adapter(&name, "gated").await;
    let path = format!("/adapters/acme/{name}");
    match change.action {
        Action::SetGate | Action::PutGrant | Action::RequestAccess => {}
        Action::DeleteGrant => {
            let granted = decider.put(&format!("{path}/grants/{ASKER}"), json!({})).await;
            assert_eq!(granted.status(), StatusCode::OK);
        }
        _ => {
            let asked = field.user(ASKER).post(&format!("{path}/access-requests"), json!({})).await;
            field.made.id = body(asked, StatusCode::CREATED).await["id"].as_str().unwrap().to_owned();
        }
    }
    // What is taken back was granted.
    if matches!(change.action, Action::RevokeAccess | Action::WithdrawAccessRequest) {
        let approved = decider.post(&format!("/access-requests/{}/approve", field.made.id), json!({})).await;
        assert_eq!(approved.status(), StatusCode::OK);
    }
}

/// A key that an owner makes with their session.
async fn decider(field: &Field) -> String {
    let owner = people::member(field, "owner").await;
    let key = json!({ "name": DECIDER, "scopes": ["adapters:read", "access:decide"] });
    let made = body(owner.change(Method::POST, "/keys", key).await, StatusCode::CREATED).await;
    made["secret"].as_str().unwrap().to_owned()
}

pub(super) fn request(change: Change, field: &Field) -> RequestBuilder {
    let (acme, asker, decider) = (field.acme(), field.user(ASKER), field.user(DECIDER));
    let path = format!("/adapters/acme/{}", change.name());
    let step = |step: &str| format!("/access-requests/{}/{step}", field.made.id);
    let with_reason = json!({ "reason": "a test" });
    match change.action {
        Action::SetGate => acme.request(Method::PUT, &format!("{path}/gate")).json(&gate()),
        Action::PutGrant => {
            decider.request(Method::PUT, &format!("{path}/grants/{ASKER}")).json(&json!({ "note": "a test" }))
        }
        Action::DeleteGrant => decider.request(Method::DELETE, &format!("{path}/grants/{ASKER}")),
        Action::RequestAccess => asker.request(Method::POST, &format!("{path}/access-requests")).json(&json!({})),
        Action::ApproveAccess => decider.request(Method::POST, &step("approve")).json(&json!({})),
        Action::RejectAccess => decider.request(Method::POST, &step("reject")).json(&with_reason),
        Action::RevokeAccess => decider.request(Method::POST, &step("revoke")).json(&with_reason),
        Action::WithdrawAccessRequest => asker.request(Method::POST, &step("withdraw")).json(&json!({})),
        other => panic!("{other:?} is not of access"),
    }
}

fn gate() -> Value {
    let question = json!({ "name": "purpose", "label": "What for?", "kind": "text", "required": true });
    json!({ "questions": [question], "answer_within_days": 9 })
}

pub(super) async fn check(change: Change, field: &Field) {
    let (acme, asker, adapter) = (field.acme(), field.user(ASKER), format!("acme/{}", change.name()));
    let granted = listed(&acme, &format!("/adapters/{adapter}/grants")).await;
    let granted: Vec<_> = granted.iter().map(|grant| grant["tenant"].as_str().unwrap()).collect();
    let (state, is_granted) = match change.action {
        Action::SetGate => {
            let gate = body(acme.get(&format!("/adapters/{adapter}/gate")).await, StatusCode::OK).await;
            assert_eq!((&gate["answer_within_days"], &gate["questions"][0]["name"]), (&json!(9), &json!("purpose")));
            (None, false)
        }
        Action::PutGrant => (None, true),
        Action::DeleteGrant => (None, false),
        Action::RequestAccess => (Some("pending"), false),
        Action::ApproveAccess => (Some("approved"), true),
        Action::RejectAccess => (Some("rejected"), false),
        Action::RevokeAccess => (Some("revoked"), false),
        Action::WithdrawAccessRequest => (Some("withdrawn"), false),
        other => panic!("{other:?} is not of access"),
    };
    let expected: &[&str] = if is_granted { &[ASKER] } else { &[] };
    assert_eq!(granted, expected, "{change:?}");
    assert_eq!(num_with(&asker, "/access-requests", "adapter", &adapter).await, usize::from(state.is_some()));
    let Some(state) = state else { return };
    let in_state = format!("/access-requests?state={state}");
    assert_eq!(num_with(&asker, &in_state, "adapter", &adapter).await, 1, "{change:?} is not {state}");
}
