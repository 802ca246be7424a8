//! Changes of members, and what a person does with a session.

use reqwest::header::ORIGIN;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::json;
use souk_registry::Action;

use super::change::Change;
use super::{Field, listed, num_with};
use crate::browser::{Browser, end_of};
use crate::login;
use crate::support::body;

/// By who manages a tenant, or all of them.
pub(super) const OF_MEMBERS: [Action; 6] = [
    Action::CreateInvitation,
    Action::RevokeInvitation,
    Action::ChangeRole,
    Action::RemoveMember,
    Action::CreateSignInLink,
    Action::ErasePerson,
];
/// By a person, with a session or what came of one.
pub(super) const OF_PERSONS: [Action; 6] = [
    Action::AcceptInvitation,
    Action::MakeOwnTenant,
    Action::LeaveTenant,
    Action::SignOut,
    Action::EndSession,
    Action::FinishLogin,
];

/// A new member of acme, signed in.
pub(super) async fn member(field: &Field, role: &str) -> Browser {
    let browser = Browser::at_address(&field.process.base_url);
    browser.join(&invite(field, "acme", &format!("{role}@example.com"), role).await.1).await;
    browser
}

/// The operator asks an address; answers the invitation's id and its link.
pub(super) async fn invite(field: &Field, tenant: &str, email: &str, role: &str) -> (String, String) {
    let request = json!({ "email": email, "role": role, "tenant": tenant });
    let made = body(field.admin().post("/invitations", request).await, StatusCode::CREATED).await;
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (text("id"), text("link"))
}

pub(super) async fn prepare(change: Change, field: &mut Field) {
    let name = change.name();
    match change.action {
        Action::CreateInvitation => return,
        Action::RevokeInvitation => {
            field.made.id = invite(field, "acme", &email(change), "viewer").await.0;
            return;
        }
        _ => {}
    }
    let browser = member(field, "developer").await;
    let session = browser.session().await;
    field.made.csrf_token = session["csrf_token"].as_str().unwrap().to_owned();
    field.made.id = session["person"]["id"].as_str().unwrap().to_owned();
    match change.action {
        Action::AcceptInvitation => {
            field.make_tenant(&name).await;
            let (_, link) = invite(field, &name, &email(change), "viewer").await;
            field.made.secret = end_of(&link).to_owned();
        }
        Action::EndSession => {
            let path = format!("/members/{}/sign-in-link?tenant=acme", field.made.id);
            let link = body(field.admin().post(&path, json!({})).await, StatusCode::CREATED).await;
            let other = Browser::at_address(&field.process.base_url);
            other.sign_in(link["link"].as_str().unwrap()).await;
            field.made.id = other.session().await["id"].as_str().unwrap().to_owned();
        }
        Action::FinishLogin => field.made.secret = login::code_in(&login::allow(&browser).await),
        _ => {}
    }
    field.made.browser = Some(browser);
}

fn email(change: Change) -> String {
    format!("{}@example.com", change.name())
}

pub(super) fn request(change: Change, field: &Field) -> RequestBuilder {
    let (acme, admin, id) = (field.acme(), field.admin(), &field.made.id);
    let of_member = format!("/members/{id}");
    match change.action {
        Action::CreateInvitation => {
            acme.request(Method::POST, "/invitations").json(&json!({ "email": email(change), "role": "viewer" }))
        }
        Action::RevokeInvitation => acme.request(Method::DELETE, &format!("/invitations/{id}")),
        // Who views may less than before, so that what they act with ends.
        Action::ChangeRole => acme.request(Method::PATCH, &of_member).json(&json!({ "role": "viewer" })),
        Action::RemoveMember => acme.request(Method::DELETE, &of_member),
        Action::CreateSignInLink => acme.request(Method::POST, &format!("{of_member}/sign-in-link")).json(&json!({})),
        Action::ErasePerson => admin.request(Method::DELETE, &format!("/persons/{id}")),
        Action::AcceptInvitation => {
            let secret = json!({ "secret": field.made.secret });
            by_session(field, Method::POST, "/invitations/accept").json(&secret)
        }
        Action::MakeOwnTenant => {
            by_session(field, Method::POST, "/auth/tenants").json(&json!({ "name": change.name() }))
        }
        Action::LeaveTenant => by_session(field, Method::DELETE, "/auth/membership"),
        Action::SignOut => by_session(field, Method::DELETE, "/auth/session"),
        Action::EndSession => by_session(field, Method::DELETE, &format!("/auth/sessions/{id}")),
        Action::FinishLogin => {
            let request = json!({ "code": field.made.secret, "verifier": login::VERIFIER });
            acme.client.post(format!("{}/auth/login", field.process.base_url)).json(&request)
        }
        other => panic!("{other:?} is not of people"),
    }
}

/// The browser of the preparation, with the registry that runs now.
fn browser(field: &Field) -> Browser {
    field.made.browser.as_ref().unwrap().moved_to(&field.process.base_url)
}

/// A call as a page of the server's sends it.
fn by_session(field: &Field, method: Method, path: &str) -> RequestBuilder {
    let browser = browser(field);
    browser.call(method, path).header(ORIGIN, &browser.origin).header("x-csrf-token", &field.made.csrf_token)
}

pub(super) async fn check(change: Change, field: &Field) {
    let (acme, admin, name, id) = (field.acme(), field.admin(), change.name(), &field.made.id);
    let invitations = async |field: &str, text: &str| num_with(&acme, "/invitations", field, text).await;
    let num_as_members = async || num_with(&acme, "/members", "person", id).await;
    let count = async |of: String| field.number(&format!("SELECT count(*) AS n FROM {of}")).await;
    match change.action {
        Action::CreateInvitation => assert_eq!(invitations("email", &email(change)).await, 1),
        Action::RevokeInvitation => {
            let all = listed(&acme, "/invitations").await;
            assert_eq!(all.iter().find(|one| one["id"] == **id).unwrap()["state"], "revoked");
        }
        Action::ChangeRole => {
            let members = listed(&acme, "/members").await;
            assert_eq!(members.iter().find(|member| member["person"] == **id).unwrap()["role"], "viewer");
            assert!(!browser(field).is_signed_in().await);
        }
        Action::RemoveMember | Action::LeaveTenant => {
            assert_eq!(num_as_members().await, 0);
            assert!(!browser(field).is_signed_in().await);
        }
        Action::CreateSignInLink => {
            assert_eq!(count(format!("sign_in_links WHERE person_id = '{id}'")).await, 1);
            let told = format!("audit_entries WHERE action = 'sign_in_link.created' AND subject = '{id}'");
            assert_eq!(count(told).await, 1);
        }
        Action::ErasePerson => {
            assert_eq!(num_as_members().await, 0);
            assert!(!browser(field).is_signed_in().await);
            assert_eq!(count(format!("persons WHERE id = '{id}' AND email IS NULL")).await, 1);
        }
        Action::AcceptInvitation | Action::MakeOwnTenant => {
            let role = if change.action == Action::MakeOwnTenant { "owner" } else { "viewer" };
            assert_eq!(num_with(&admin, "/tenants", "name", &name).await, 1);
            let members = listed(&admin, &format!("/members?tenant={name}")).await;
            let members: Vec<_> = members.iter().map(|member| (&member["person"], &member["role"])).collect();
            assert_eq!(members, [(&json!(id), &json!(role))]);
            assert_eq!(browser(field).session().await["tenant"], json!({ "tenant": name, "role": role }));
        }
        Action::SignOut => {
            assert!(!browser(field).is_signed_in().await);
            assert_eq!(num_as_members().await, 1);
        }
        Action::EndSession => {
            let sessions = body(browser(field).get("/auth/sessions").await, StatusCode::OK).await;
            let sessions = sessions["data"].as_array().unwrap();
            assert!(sessions.len() == 1 && sessions[0]["id"] != **id, "{sessions:?}");
        }
        Action::FinishLogin => {
            // A code that was used before the process ended has made one key, or none.
            let keys = count(format!("api_keys WHERE person_id = '{id}'")).await;
            let told = format!("audit_entries WHERE action = 'key.created' AND details LIKE '%{id}%'");
            assert!(keys <= 1 && keys == count(told).await, "{keys}");
            let again = request(change, field).send().await.unwrap();
            assert_eq!(again.status(), StatusCode::NOT_FOUND, "a code is good once");
        }
        other => panic!("{other:?} is not of people"),
    }
}
