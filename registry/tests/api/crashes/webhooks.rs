//! Changes of webhooks. Nothing is sent meanwhile.

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::json;
use souk_registry::Action;

use super::change::Change;
use super::{Field, listed, num_with};
use crate::support::body;

pub(super) const ACTIONS: [Action; 5] = [
    Action::CreateWebhook,
    Action::UpdateWebhook,
    Action::DeleteWebhook,
    Action::RotateWebhookSecret,
    Action::ReplayDelivery,
];

const URL: &str = "https://hooks.invalid/";

pub(super) async fn prepare(change: Change, field: &mut Field) {
    field.made.secret = field.make_tenant(&change.name()).await;
    if change.action == Action::CreateWebhook {
        return;
    }
    let maker = field.maker();
    let made = body(maker.post("/webhooks", json!({ "url": URL })).await, StatusCode::CREATED).await;
    field.made.id = made["id"].as_str().unwrap().to_owned();
    if change.action == Action::ReplayDelivery {
        let key = maker.post("/keys", json!({ "name": "over", "scopes": ["inference"] })).await;
        let key = body(key, StatusCode::CREATED).await["id"].as_str().unwrap().to_owned();
        assert_eq!(maker.delete(&format!("/keys/{key}")).await.status(), StatusCode::NO_CONTENT);
        let sent = listed(&maker, &format!("/webhooks/{}/deliveries", field.made.id)).await;
        field.made.delivery = sent[0]["id"].as_str().unwrap().to_owned();
    }
}

pub(super) fn request(change: Change, field: &Field) -> RequestBuilder {
    let (maker, path) = (field.maker(), format!("/webhooks/{}", field.made.id));
    match change.action {
        Action::CreateWebhook => maker.request(Method::POST, "/webhooks").json(&json!({ "url": URL })),
        Action::UpdateWebhook => {
            let request = json!({ "description": "changed", "enabled": false });
            maker.request(Method::PATCH, &path).json(&request)
        }
        Action::DeleteWebhook => maker.request(Method::DELETE, &path),
        Action::RotateWebhookSecret => maker.request(Method::POST, &format!("{path}/rotate-secret")),
        Action::ReplayDelivery => {
            let delivery = &field.made.delivery;
            maker.request(Method::POST, &format!("{path}/deliveries/{delivery}/replay"))
        }
        other => panic!("{other:?} is not of webhooks"),
    }
}

pub(super) async fn check(change: Change, field: &Field) {
    let (maker, path) = (field.maker(), format!("/webhooks/{}", field.made.id));
    let num_endpoints = num_with(&maker, "/webhooks", "url", URL).await;
    assert_eq!(num_endpoints, usize::from(change.action != Action::DeleteWebhook), "{change:?}");
    let seen = async || body(maker.get(&path).await, StatusCode::OK).await;
    match change.action {
        Action::CreateWebhook => {}
        Action::UpdateWebhook => {
            let seen = seen().await;
            assert_eq!((&seen["description"], &seen["state"]), (&json!("changed"), &json!("paused")));
        }
        Action::DeleteWebhook => assert_eq!(maker.get(&path).await.status(), StatusCode::NOT_FOUND),
        // A repeated request makes the newest secret, and the one before goes on signing.
        Action::RotateWebhookSecret => assert!(seen().await["secret_before_until"].is_string()),
        Action::ReplayDelivery => {
            let delivery = &field.made.delivery;
            assert_eq!(num_with(&maker, &format!("{path}/deliveries"), "replay_of", delivery).await, 1);
        }
        other => panic!("{other:?} is not of webhooks"),
    }
}
