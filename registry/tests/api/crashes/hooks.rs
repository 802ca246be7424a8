//! Changes of hooks, of where they are attached, and of what they may read.

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use souk_registry::Action;

use super::change::Change;
use super::{Field, listed};
use crate::components::{component, component_form};
use crate::support::body;

pub(super) const PUBLISHING: [Action; 1] = [Action::PublishHookVersion];
/// What removes objects.
pub(super) const DELETIONS: [Action; 2] = [Action::DeleteHookVersion, Action::DeleteHook];
/// What leaves objects as they are.
pub(super) const TEXTS: [Action; 13] = [
    Action::CreateHook,
    Action::UpdateHook,
    Action::YankHookVersion,
    Action::UnyankHookVersion,
    Action::TakeDownHookVersion,
    Action::PutHookGrant,
    Action::DeleteHookGrant,
    Action::SetHookSettings,
    Action::SetHookLimits,
    Action::SetPipeline,
    Action::RollBackPipeline,
    Action::SetVersionPipeline,
    Action::RollBackVersionPipeline,
];

pub(super) async fn prepare(change: Change, field: &mut Field) {
    let (acme, name) = (field.acme(), change.name());
    if change.action == Action::CreateHook {
        return;
    }
    acme.make_hook(&name, "private").await;
    if change.action == Action::PublishHookVersion {
        return;
    }
    let hook = format!("acme/{name}");
    acme.publish_hook(&hook, "1.0.0", change.number).await;
    let done = match change.action {
        Action::UnyankHookVersion => acme.post(&format!("/hooks/{hook}/versions/1.0.0/yank"), json!({})).await,
        Action::DeleteHookGrant => acme.put(&format!("/hooks/{hook}/grants/admin"), json!({})).await,
        Action::SetVersionPipeline | Action::RollBackVersionPipeline => {
            acme.make_adapter(&name, "private").await;
            let published = acme.upload(&hook, "1.0.0", &change.files()).await;
            assert_eq!(published.status(), StatusCode::CREATED);
            if change.action == Action::SetVersionPipeline {
                return;
            }
            acme.put(&target(change), steps(change)).await
        }
        Action::RollBackPipeline => acme.put(&target(change), steps(change)).await,
        _ => return,
    };
    assert_eq!(done.status(), StatusCode::OK);
    if matches!(change.action, Action::RollBackPipeline | Action::RollBackVersionPipeline) {
        let detached = acme.put(&target(change), json!({ "steps": [] })).await;
        field.made.number = body(detached, StatusCode::OK).await["number"].as_i64().unwrap() - 1;
    }
}

/// The path of the pipeline that the change is of.
fn target(change: Change) -> String {
    match change.action {
        Action::SetVersionPipeline | Action::RollBackVersionPipeline => {
            format!("/adapters/acme/{}/versions/1.0.0/pipeline", change.name())
        }
        _ => "/pipelines/route/chat".to_owned(),
    }
}

fn steps(change: Change) -> Value {
    json!({ "steps": [{ "hook": format!("acme/{}", change.name()), "config": { "words": ["x"] } }] })
}

/// Fuel that no other change of the field says.
fn limit(change: Change) -> u64 {
    100_000_000 + u64::from(change.number)
}

pub(super) fn request(change: Change, field: &Field) -> RequestBuilder {
    let (acme, name) = (field.acme(), change.name());
    let hook = format!("/hooks/acme/{name}");
    let version = format!("{hook}/versions/1.0.0");
    match change.action {
        Action::CreateHook => acme.request(Method::POST, "/hooks").json(&json!({ "name": name })),
        Action::UpdateHook => acme.request(Method::PATCH, &hook).json(&json!({ "description": "changed" })),
        Action::DeleteHook => acme.request(Method::DELETE, &hook),
        Action::PublishHookVersion => {
            let form = component_form("1.0.0", component(change.number));
            acme.request(Method::POST, &format!("{hook}/versions")).multipart(form)
        }
        Action::DeleteHookVersion => acme.request(Method::DELETE, &version),
        Action::YankHookVersion => acme.request(Method::POST, &format!("{version}/yank")),
        Action::UnyankHookVersion => acme.request(Method::POST, &format!("{version}/unyank")),
        Action::TakeDownHookVersion => {
            let request = field.admin().request(Method::POST, &format!("{version}/take-down"));
            request.json(&json!({ "reason": "a test" }))
        }
        Action::PutHookGrant => acme.request(Method::PUT, &format!("{hook}/grants/admin")),
        Action::DeleteHookGrant => acme.request(Method::DELETE, &format!("{hook}/grants/admin")),
        Action::SetHookSettings => {
            let settings = json!({ "variables": { "number": change.number.to_string() } });
            acme.request(Method::PUT, "/hook-settings").json(&settings)
        }
        Action::SetHookLimits => {
            let request = field.admin().request(Method::PATCH, "/tenants/acme/hook-limits");
            request.json(&json!({ "limits": { "max_fuel": limit(change) } }))
        }
        Action::SetPipeline | Action::SetVersionPipeline => {
            acme.request(Method::PUT, &target(change)).json(&steps(change))
        }
        Action::RollBackPipeline | Action::RollBackVersionPipeline => {
            let request = acme.request(Method::POST, &format!("{}/roll-back", target(change)));
            request.json(&json!({ "number": field.made.number }))
        }
        other => panic!("{other:?} is not of hooks"),
    }
}

pub(super) async fn check(change: Change, field: &Field) {
    let (acme, name) = (field.acme(), change.name());
    let hook = format!("/hooks/acme/{name}");
    let of = async |path: &str| body(acme.get(path).await, StatusCode::OK).await;
    let status = async |path: &str| acme.get(path).await.status();
    let version = format!("{hook}/versions/1.0.0");
    match change.action {
        Action::CreateHook => assert_eq!(of(&hook).await["name"], name),
        Action::UpdateHook => assert_eq!(of(&hook).await["description"], "changed"),
        Action::DeleteHook => assert_eq!(status(&hook).await, StatusCode::NOT_FOUND),
        Action::PublishHookVersion => {
            assert_eq!(listed(&acme, &format!("{hook}/versions")).await.len(), 1);
            let bytes = acme.get(&format!("{version}/component")).await.bytes().await.unwrap();
            assert_eq!(bytes, component(change.number));
        }
        Action::DeleteHookVersion => {
            assert_eq!(status(&version).await, StatusCode::NOT_FOUND);
            assert!(of(&hook).await["latest_version"].is_null());
        }
        Action::YankHookVersion => assert_eq!(of(&version).await["state"], "yanked"),
        Action::UnyankHookVersion => assert_eq!(of(&version).await["state"], "ready"),
        Action::TakeDownHookVersion => assert_eq!(of(&version).await["state"], "taken_down"),
        Action::PutHookGrant => assert_eq!(listed(&acme, &format!("{hook}/grants")).await.len(), 1),
        Action::DeleteHookGrant => assert!(listed(&acme, &format!("{hook}/grants")).await.is_empty()),
        Action::SetHookSettings => {
            assert_eq!(of("/hook-settings").await["variables"]["number"], change.number.to_string());
        }
        Action::SetHookLimits => {
            assert_eq!(of("/hook-limits").await["limits"]["max_fuel"]["value"], limit(change));
        }
        Action::SetPipeline
        | Action::SetVersionPipeline
        | Action::RollBackPipeline
        | Action::RollBackVersionPipeline => {
            assert_eq!(of(&target(change)).await["steps"][0]["hook"], format!("acme/{name}"));
        }
        other => panic!("{other:?} is not of hooks"),
    }
}
