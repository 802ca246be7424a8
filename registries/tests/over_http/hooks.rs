//! Hooks that a gateway apart fetches, and what it tells of them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::json;
use souk_gateway::{HookSource as _, HookSourceError};
use souk_protocol::hooks::{HookLimit, HookLine, HookTold, Part as HookPart};
use souk_protocol::ids::HookVersionId;
use souk_protocol::{Digest, TenantId};
use souk_registries::HttpHooks;
use souk_registry::{HookIntake, HookReport, HookTerms, JudgedHook, NotJudged, OfferedLimit, SealedHook};
use souk_testkit::proxy::Mode;

use crate::field::Field;

/// The engine that everything is compiled for here.
const ENGINE: &str = "00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff";

/// Takes anything: here bytes only have to arrive.
struct Anything;

#[async_trait]
impl HookIntake for Anything {
    async fn judge(&self, _tenant: &TenantId, component: Bytes, _terms: &HookTerms) -> Result<JudgedHook, NotJudged> {
        let bytes = [b"compiled ", component.as_ref()].concat().into();
        let report = HookReport {
            size_bytes: component.len() as u64,
            interface: "0.1.0".to_owned(),
            exports: vec!["prompt".to_owned()],
            ..HookReport::default()
        };
        Ok(JudgedHook { report, artifact: SealedHook { engine: ENGINE.to_owned(), bytes } })
    }

    fn most_bytes(&self, _is_large: bool) -> u64 {
        1 << 20
    }

    fn offered(&self, _limit: HookLimit) -> OfferedLimit {
        OfferedLimit { least: 1, usual: 1, most: 1 }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_is_fetched_from_whichever_registry_answers_and_lines_are_written_by_it() {
    let field = Field::with(2).await;
    for running in &field.registries {
        running.registry.takes_hooks(Arc::new(Anything));
    }
    let component = vec![7; 200_000];
    let digest = Digest::of(&component);
    let key = &field.admin_key;
    field.operator(Method::POST, "hooks", json!({"name": "mask", "visibility": "private"})).await;
    let form = Form::new().text("version", "1.0.0").part("component", Part::bytes(component.clone()));
    let path = "hooks/admin/mask/versions";
    let made = field.request(0, Method::POST, path, key).multipart(form).send().await.unwrap();
    assert_eq!(made.status(), 201, "{}", made.text().await.unwrap());

    let apart = field.gateway();
    let hooks = HttpHooks::new(apart.catalog.registries().clone());
    for number in [0, 1] {
        field.registries[number].proxy.set(Mode::Closed);
        assert_eq!(hooks.component(&digest).await.unwrap(), component);
        let sealed = hooks.artifact(&digest, ENGINE).await.unwrap().unwrap();
        assert_eq!(sealed, [b"compiled ", component.as_slice()].concat());
        assert_eq!(hooks.artifact(&digest, &"0".repeat(64)).await.unwrap(), None, "of another engine");
        field.registries[number].proxy.set(Mode::Pass);
        // Whoever could not be reached is tried again after a while.
        tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
    }
    assert!(matches!(hooks.component(&Digest::of(b"none")).await, Err(HookSourceError::NotFound)));
    let line = HookLine {
        version: HookVersionId::from_stored("hkv_unknown"),
        tenant: TenantId::from_stored("ten_1"),
        at_ms: 1,
        request: None,
        what: HookTold::Failed { part: HookPart::Prompt, code: "trap".to_owned(), detail: None },
    };
    hooks.write_lines(vec![line; 450]).await.unwrap();
    for running in &field.registries {
        running.proxy.set(Mode::Closed);
    }
    let away = hooks.component(&digest).await;
    assert!(matches!(away, Err(HookSourceError::Unavailable(_))), "{away:?}");
}
