//! Changes of adapters, versions, tags and uploads.

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::json;
use souk_registry::Action;

use super::change::Change;
use super::{Field, listed};
use crate::support::{announcement, begin_upload, body, completion, send_parts};

pub(super) const PUBLISHING: [Action; 1] = [Action::PublishVersion];
/// What removes objects.
pub(super) const DELETIONS: [Action; 2] = [Action::DeleteVersion, Action::DeleteAdapter];
/// What goes straight to a bucket.
pub(super) const UPLOADS: [Action; 3] = [Action::BeginUpload, Action::CompleteUpload, Action::AbortUpload];
/// What leaves objects as they are.
pub(super) const TEXTS: [Action; 7] = [
    Action::CreateAdapter,
    Action::UpdateAdapter,
    Action::YankVersion,
    Action::UnyankVersion,
    Action::TakeDownVersion,
    Action::PutTag,
    Action::DeleteTag,
];

pub(super) async fn prepare(change: Change, field: &mut Field) {
    let (acme, name) = (field.acme(), change.name());
    if change.action == Action::CreateAdapter {
        return;
    }
    acme.make_adapter(&name, "private").await;
    let adapter = format!("acme/{name}");
    let weights = change.files().weights_bytes();
    match change.action {
        Action::PublishVersion | Action::UpdateAdapter | Action::BeginUpload => return,
        Action::CompleteUpload | Action::AbortUpload => {
            field.made.upload = begin_upload(&acme, &adapter, "1.0.0", &weights).await;
            send_parts(&acme, &adapter, &field.made.upload, &weights, &[1]).await;
            return;
        }
        _ => {}
    }
    let published = acme.upload(&adapter, "1.0.0", &change.files()).await;
    assert_eq!(published.status(), StatusCode::CREATED);
    let path = format!("/adapters/acme/{name}");
    let done = match change.action {
        Action::UnyankVersion => acme.post(&format!("{path}/versions/1.0.0/yank"), json!({})).await,
        Action::DeleteTag => acme.put(&format!("{path}/tags/prod"), json!({ "version": "1.0.0" })).await,
        _ => return,
    };
    assert_eq!(done.status(), StatusCode::OK);
}

pub(super) fn request(change: Change, field: &Field) -> RequestBuilder {
    let (acme, name) = (field.acme(), change.name());
    let path = format!("/adapters/acme/{name}");
    let version = format!("{path}/versions/1.0.0");
    match change.action {
        Action::CreateAdapter => acme.request(Method::POST, "/adapters").json(&json!({ "name": name })),
        Action::UpdateAdapter => acme.request(Method::PATCH, &path).json(&json!({ "description": "changed" })),
        Action::DeleteAdapter => acme.request(Method::DELETE, &path),
        Action::PublishVersion => {
            acme.request(Method::POST, &format!("{path}/versions")).multipart(change.files().form("1.0.0"))
        }
        Action::YankVersion => acme.request(Method::POST, &format!("{version}/yank")),
        Action::UnyankVersion => acme.request(Method::POST, &format!("{version}/unyank")),
        Action::TakeDownVersion => {
            let request = field.admin().request(Method::POST, &format!("{version}/take-down"));
            request.json(&json!({ "reason": "a test" }))
        }
        Action::DeleteVersion => acme.request(Method::DELETE, &version),
        Action::PutTag => acme.request(Method::PUT, &format!("{path}/tags/prod")).json(&json!({ "version": "1.0.0" })),
        Action::DeleteTag => acme.request(Method::DELETE, &format!("{path}/tags/prod")),
        Action::BeginUpload => {
            let announced = announcement("1.0.0", &change.files().weights_bytes());
            acme.request(Method::POST, &format!("{path}/uploads")).json(&announced)
        }
        Action::CompleteUpload => {
            completion(&acme, &format!("acme/{name}"), &field.made.upload, change.files().config_bytes())
        }
        Action::AbortUpload => {
            let upload = field.made.upload["id"].as_str().unwrap();
            acme.request(Method::DELETE, &format!("{path}/uploads/{upload}"))
        }
        other => panic!("{other:?} is not of adapters"),
    }
}

pub(super) async fn check(change: Change, field: &Field) {
    let (acme, name) = (field.acme(), change.name());
    let path = format!("/adapters/acme/{name}");
    let of = async |path: &str| body(acme.get(path).await, StatusCode::OK).await;
    let status = async |path: &str| acme.get(path).await.status();
    let version = format!("{path}/versions/1.0.0");
    match change.action {
        Action::CreateAdapter => assert_eq!(of(&path).await["name"], name),
        Action::UpdateAdapter => assert_eq!(of(&path).await["description"], "changed"),
        Action::DeleteAdapter => assert_eq!(status(&path).await, StatusCode::NOT_FOUND),
        Action::PublishVersion | Action::CompleteUpload => {
            let versions = listed(&acme, &format!("{path}/versions")).await;
            assert_eq!(versions.len(), 1, "{versions:?}");
            let weights = acme.get(&format!("{version}/files/adapter_model.safetensors")).await;
            assert_eq!(weights.bytes().await.unwrap(), change.files().weights_bytes());
        }
        Action::YankVersion => assert_eq!(of(&version).await["state"], "yanked"),
        Action::UnyankVersion => assert_eq!(of(&version).await["state"], "ready"),
        Action::TakeDownVersion => assert_eq!(of(&version).await["state"], "taken_down"),
        Action::DeleteVersion => {
            assert_eq!(status(&version).await, StatusCode::NOT_FOUND);
            assert!(of(&path).await["latest_version"].is_null());
        }
        Action::PutTag => assert_eq!(of(&format!("{path}/tags/prod")).await["version"], "1.0.0"),
        Action::DeleteTag => assert_eq!(status(&format!("{path}/tags/prod")).await, StatusCode::NOT_FOUND),
        Action::BeginUpload => {
            let uploads = listed(&acme, &format!("{path}/uploads")).await;
            let [upload] = &uploads[..] else { panic!("{uploads:?}") };
            let weights = change.files().weights_bytes();
            send_parts(&acme, &format!("acme/{name}"), upload, &weights, &[1]).await;
            let ended = acme.delete(&format!("{path}/uploads/{}", upload["id"].as_str().unwrap())).await;
            assert_eq!(ended.status(), StatusCode::NO_CONTENT);
        }
        Action::AbortUpload => {
            assert!(listed(&acme, &format!("{path}/uploads")).await.is_empty());
            assert!(listed(&acme, &format!("{path}/versions")).await.is_empty());
        }
        other => panic!("{other:?} is not of adapters"),
    }
}
