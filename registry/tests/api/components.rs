//! Components of hooks, and what looks at them: the executable's own, which compiles here in the place of a process apart.

#[path = "../../../src/ports/hook_intake.rs"]
mod hook_intake;

use std::sync::{Arc, LazyLock};

use reqwest::multipart::{Form, Part};
use reqwest::{Response, StatusCode};
use secrecy::SecretString;
use serde_json::{Value, json};
use souk_plugins::{HookSettings, Host, SealingKey, compile_here};
use souk_registry::HookIntake;

use self::hook_intake::Intake;
use crate::support::{User, body};

/// What replaces words; its configuration has `words`.
const REDACT: &[u8] = include_bytes!("../../../plugins/tests/guests/redact-c.wasm");

static INTAKE: LazyLock<Arc<dyn HookIntake>> = LazyLock::new(|| {
    let key = SealingKey::new(SecretString::from("a key of tests, of thirty-two characters"));
    let settings = HookSettings::default();
    let host = Arc::new(Host::start(&settings, key.clone()).unwrap());
    let compile = move |_, _, component: bytes::Bytes| {
        let key = key.clone();
        let work = tokio::task::spawn_blocking(move || compile_here(&component, &key));
        Box::pin(async move { work.await.unwrap() }) as futures::future::BoxFuture<'static, _>
    };
    Arc::new(Intake::new(host, settings, Box::new(compile)))
});

/// What looks at hooks in all registries of a process.
pub(crate) fn intake() -> Arc<dyn HookIntake> {
    INTAKE.clone()
}

/// A component that does the same as every other and has a digest of its own.
pub(crate) fn component(seed: u8) -> Vec<u8> {
    // A custom section with a name of one letter and a byte.
    [REDACT, &[0, 3, 1, b's', seed]].concat()
}

/// The form that publishes it.
pub(crate) fn component_form(version: &str, component: Vec<u8>) -> Form {
    Form::new().text("version", version.to_owned()).part("component", Part::bytes(component))
}

impl User {
    pub(crate) async fn make_hook(&self, name: &str, visibility: &str) -> Value {
        let made = self.post("/hooks", json!({ "name": name, "visibility": visibility })).await;
        body(made, StatusCode::CREATED).await
    }

    pub(crate) async fn upload_hook(&self, hook: &str, version: &str, component: Vec<u8>) -> Response {
        let request = self.request(reqwest::Method::POST, &format!("/hooks/{hook}/versions"));
        request.multipart(component_form(version, component)).send().await.unwrap()
    }

    /// Publishes the component with this seed.
    pub(crate) async fn publish_hook(&self, hook: &str, version: &str, seed: u8) -> Value {
        body(self.upload_hook(hook, version, component(seed)).await, StatusCode::CREATED).await
    }
}
