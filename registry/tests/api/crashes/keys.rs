//! Changes of tenants, keys, policies, services and signing keys.

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use souk_registry::Action;

use super::change::Change;
use super::{Field, listed, num_with};
use crate::support::{User, body, wait_until};

pub(super) const ACTIONS: [Action; 11] = [
    Action::CreateTenant,
    Action::CreateKey,
    Action::RevokeKey,
    Action::RotateKey,
    Action::ReportLeakedKeys,
    Action::SetPolicy,
    Action::RotateSigningKey,
    Action::CreateService,
    Action::RevokeService,
    Action::RequestErasure,
    Action::CancelErasure,
];

/// What the policy lets keys do that is set.
const WITHIN_POLICY: [&str; 2] = ["tenant:manage", "keys:manage"];

pub(super) async fn prepare(change: Change, field: &mut Field) {
    let name = change.name();
    match change.action {
        Action::RevokeKey | Action::RotateKey => field.made.id = make_key(&field.acme(), &name).await,
        Action::ReportLeakedKeys => {
            let key = json!({ "name": name, "scopes": ["inference", "keys:manage"] });
            let made = body(field.acme().post("/keys", key).await, StatusCode::CREATED).await;
            let text = |field: &str| made[field].as_str().unwrap().to_owned();
            (field.made.id, field.made.secret) = (text("id"), text("secret"));
            make_key(&field.maker(), &name).await;
        }
        Action::SetPolicy => {
            field.make_tenant(&name).await;
            field.made.secret = field.make_key(&name, &WITHIN_POLICY).await;
        }
        Action::RevokeService => {
            let made = body(field.admin().post("/services", json!({ "name": name })).await, StatusCode::CREATED).await;
            field.made.id = made["id"].as_str().unwrap().to_owned();
        }
        Action::RequestErasure => _ = field.make_tenant(&name).await,
        Action::CancelErasure => {
            field.make_tenant(&name).await;
            let asked = field.admin().post(&format!("/tenants/{name}/erasure"), json!({})).await;
            assert_eq!(asked.status(), StatusCode::OK);
        }
        _ => {}
    }
}

/// A key that may call models; answers its id.
async fn make_key(user: &User, name: &str) -> String {
    let made = user.post("/keys", json!({ "name": name, "scopes": ["inference"] })).await;
    body(made, StatusCode::CREATED).await["id"].as_str().unwrap().to_owned()
}

pub(super) fn request(change: Change, field: &Field) -> RequestBuilder {
    let (acme, admin, name, id) = (field.acme(), field.admin(), change.name(), &field.made.id);
    match change.action {
        Action::CreateTenant => admin.request(Method::POST, "/tenants").json(&json!({ "name": name })),
        Action::CreateKey => {
            acme.request(Method::POST, "/keys").json(&json!({ "name": name, "scopes": ["inference"] }))
        }
        Action::RevokeKey => acme.request(Method::DELETE, &format!("/keys/{id}")),
        Action::RotateKey => acme.request(Method::POST, &format!("/keys/{id}/rotate")).json(&json!({ "overlap_s": 0 })),
        Action::ReportLeakedKeys => {
            let reports = json!([{ "token": field.made.secret, "url": "https://example.org/" }]);
            acme.client.post(format!("{}/keys/revoke", acme.base_url())).json(&reports)
        }
        Action::SetPolicy => {
            let policy = json!({ "scopes": WITHIN_POLICY, "end_breaking": true });
            field.maker().request(Method::PUT, "/policy").json(&policy)
        }
        Action::RotateSigningKey => admin.request(Method::POST, "/auth/signing-keys"),
        Action::CreateService => admin.request(Method::POST, "/services").json(&json!({ "name": name })),
        Action::RevokeService => admin.request(Method::DELETE, &format!("/services/{id}")),
        Action::RequestErasure => admin.request(Method::POST, &format!("/tenants/{name}/erasure")).json(&json!({})),
        Action::CancelErasure => admin.request(Method::DELETE, &format!("/tenants/{name}/erasure")),
        other => panic!("{other:?} is not of keys"),
    }
}

pub(super) async fn check(change: Change, field: &Field) {
    let (acme, admin, name, id) = (field.acme(), field.admin(), change.name(), &field.made.id);
    let key_in = |keys: &[Value], id: &str| keys.iter().find(|key| key["id"] == id).unwrap().clone();
    match change.action {
        Action::CreateTenant => assert_eq!(num_with(&admin, "/tenants", "name", &name).await, 1),
        Action::CreateKey => assert_eq!(num_with(&acme, "/keys", "name", &name).await, 1),
        Action::RevokeKey => {
            let key = key_in(&listed(&acme, "/keys").await, id);
            assert!(key["revoked_at"].is_string(), "{key}");
        }
        Action::RotateKey => {
            let keys = listed(&acme, "/keys").await;
            let old = key_in(&keys, id);
            let of_name: Vec<_> = keys.iter().filter(|key| key["name"] == name && key["id"] != old["id"]).collect();
            let [new] = of_name[..] else { panic!("{of_name:?}") };
            assert_eq!((&old["replaced_by"], &old["revoked_for"]), (&new["id"], &json!("rotated")));
            assert!(new["revoked_at"].is_null() && new["replaced_by"].is_null(), "{new}");
        }
        Action::ReportLeakedKeys => {
            // What is answered is not done yet.
            let own = async || key_in(&listed(&acme, "/keys").await, id);
            wait_until("it is revoked", async || own().await["revoked_at"].is_string()).await;
            // Nor does one more report do anything.
            let again = request(change, field).send().await.unwrap();
            assert_eq!(again.status(), StatusCode::ACCEPTED);
            let keys = listed(&acme, "/keys").await;
            let ended: Vec<_> = keys.iter().filter(|key| key["name"] == name).map(|key| &key["revoked_for"]).collect();
            assert_eq!(ended.len(), 2, "{keys:?}");
            assert!(ended.iter().all(|why| *why == "leaked"), "the other was made with it: {keys:?}");
            for told in [
                format!("audit_entries WHERE action = 'key.leaked' AND subject = '{id}'"),
                format!("outbox WHERE kind = 'key.leaked' AND subject = '{id}'"),
            ] {
                assert_eq!(field.number(&format!("SELECT count(*) AS n FROM {told}")).await, 1, "{told}");
            }
        }
        Action::SetPolicy => {
            let policy = body(field.maker().get("/policy").await, StatusCode::OK).await;
            assert!(policy["updated_at"].is_string(), "{policy}");
            // The tenant's first key does more, and that which set the policy does not.
            let keys = listed(&field.maker(), "/keys").await;
            let ended: Vec<_> = keys.iter().map(|key| key["revoked_for"] == "policy").collect();
            assert_eq!((ended.len(), ended.iter().filter(|ended| **ended).count()), (2, 1), "{keys:?}");
        }
        Action::RotateSigningKey => {
            let token = acme.post("/auth/token", json!({})).await;
            let token = body(token, StatusCode::OK).await["access_token"].as_str().unwrap().to_owned();
            assert_eq!(field.process.user(&token).get("/adapters").await.status(), StatusCode::OK);
        }
        Action::CreateService => assert_eq!(num_with(&admin, "/services", "name", &name).await, 1),
        Action::RevokeService => {
            let service = key_in(&listed(&admin, "/services").await, id);
            assert!(service["revoked_at"].is_string(), "{service}");
        }
        Action::RequestErasure | Action::CancelErasure => {
            let asked = format!(
                "SELECT count(*) AS n FROM tenant_erasures e JOIN tenants t ON t.id = e.tenant_id WHERE t.name = '{name}'"
            );
            assert_eq!(field.number(&asked).await, i64::from(change.action == Action::RequestErasure));
        }
        other => panic!("{other:?} is not of keys"),
    }
}
