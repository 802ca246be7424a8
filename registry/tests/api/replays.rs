//! `Idempotency-Key` on every route that makes something: scope and rights are looked at anew before an answer is repeated.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use souk_testkit_s3::S3Server;

use crate::browser::Browser;
use crate::components::{component, component_form};
use crate::support::{
    AdapterFiles, Stack, User, announcement, begin_upload, body, completion, in_haste, problem, s3_at, send_parts,
};

/// Routes that make something at each call, by the ids of their operations.
const CREATING: [&str; 16] = [
    "create_tenant",
    "create_service",
    "create_key",
    "rotate_key",
    "create_adapter",
    "create_invitation",
    "create_sign_in_link",
    "create_team",
    "request_access",
    "create_webhook",
    "replay_delivery",
    "upload_version",
    "begin_upload",
    "complete_upload",
    "create_hook",
    "publish_hook_version",
];

/// POST routes that make nothing when they are called again, or nothing that stays, and why.
const REPEATABLE: [(&str, &str); 22] = [
    ("finish_login", "a code is used once, whatever comes of it"),
    ("choose_tenant", "a session acts for the tenant that was chosen last"),
    ("make_own_tenant", "a name is given once, and the second call says so"),
    ("accept_invitation", "an invitation is used once, and the second call says so"),
    ("exchange_token", "a token is kept nowhere"),
    ("address_parts", "an address is kept nowhere"),
    ("yank_version", "a yanked version stays yanked"),
    ("unyank_version", "a ready version stays ready"),
    ("take_down_version", "what was taken down stays so, with its first reason"),
    ("request_erasure", "a request takes the place of the one before"),
    ("rotate_webhook_secret", "each call makes the newest secret, and the one before goes on signing for a while"),
    ("rotate_signing_key", "each call makes the newest key, and older ones go on verifying"),
    ("report_leaked_keys", "what was revoked stays so, and is told once"),
    ("approve_access", "a request is decided once, and says so to whoever decides again"),
    ("reject_access", "as above"),
    ("revoke_access", "what was granted is taken back once, and the request says so"),
    ("withdraw_access_request", "as above"),
    ("yank_hook_version", "a yanked version stays yanked"),
    ("unyank_hook_version", "a ready version stays ready"),
    ("take_down_hook_version", "what was taken down stays so, with its first reason"),
    ("roll_back_pipeline", "steps that are as they were change nothing"),
    ("roll_back_version_pipeline", "as above"),
];

#[test]
fn every_post_route_takes_a_key_or_can_be_repeated_by_its_nature() {
    let document = serde_json::to_value(souk_registry::openapi()).unwrap();
    let (mut with_key, mut without) = (BTreeSet::new(), BTreeSet::new());
    for operations in document["paths"].as_object().unwrap().values() {
        let Some(operation) = operations.get("post") else { continue };
        let id = operation["operationId"].as_str().unwrap().to_owned();
        let parameters = operation["parameters"].as_array();
        let takes_key = parameters.is_some_and(|all| all.iter().any(|one| one["name"] == "Idempotency-Key"));
        if takes_key {
            with_key.insert(id)
        } else {
            without.insert(id)
        };
    }
    assert_eq!(with_key, CREATING.map(str::to_owned).into());
    assert_eq!(without, REPEATABLE.map(|(id, _)| id.to_owned()).into());
}

/// A registry whose objects are in a bucket, so that every route works.
struct Field {
    stack: Stack,
    _server: S3Server,
    acme: User,
    upload: Value,
    /// The id of a viewer of acme.
    member: String,
    /// The id of a key that can be rotated.
    key: String,
    /// A delivery that can be sent again.
    delivery: String,
}

impl Field {
    async fn new() -> Self {
        let server = S3Server::start().await;
        let stack = Stack::start_with(|config| {
            in_haste(config);
            config.objects = s3_at(server.endpoint());
            // Nothing is sent meanwhile.
            config.settings.webhooks.look_every = Duration::from_secs(3600);
        })
        .await;
        let acme = stack.tenant("acme").await;
        let manager = stack.key_for("acme", &["tenant:manage"]).await;
        let hook = json!({ "url": "https://hooks.invalid/", "kinds": ["version.ready"] });
        let hook = body(manager.post("/webhooks", hook).await, StatusCode::CREATED).await;
        acme.make_adapter("sst2", "private").await;
        acme.make_hook("mask", "private").await;
        acme.publish("acme/sst2", "0.1.0", 7).await;
        let deliveries = format!("/webhooks/{}/deliveries", hook["id"].as_str().unwrap());
        let sent = body(manager.get(&deliveries).await, StatusCode::OK).await;
        let delivery = format!("{deliveries}/{}/replay", sent["data"][0]["id"].as_str().unwrap());
        let key = acme.post("/keys", json!({ "name": "old", "scopes": ["inference"] })).await;
        let key = body(key, StatusCode::CREATED).await["id"].as_str().unwrap().to_owned();
        stack.tenant("partner").await.make_adapter("gated", "gated").await;
        let weights = AdapterFiles::tiny(3).weights_bytes();
        let upload = begin_upload(&acme, "acme/sst2", "3.0.0", &weights).await;
        send_parts(&acme, "acme/sst2", &upload, &weights, &[1]).await;
        let member = Browser::of_member(&stack, "acme", "viewer").await.person().await;
        Self { stack, _server: server, acme, upload, member, key, delivery }
    }

    /// The same request each time, by whoever asks.
    fn request(&self, id: &str, user: &User) -> RequestBuilder {
        let post = |path: &str| user.request(Method::POST, path);
        let request = match id {
            "create_tenant" => post("/tenants").json(&json!({ "name": "made" })),
            "create_service" => post("/services").json(&json!({ "name": "made" })),
            "create_webhook" => post("/webhooks").json(&json!({ "url": "https://hooks.invalid/made" })),
            "replay_delivery" => post(&self.delivery),
            "create_key" => post("/keys").json(&json!({ "name": "made", "scopes": ["inference"] })),
            "create_invitation" => post("/invitations").json(&json!({ "email": "m@example.com", "role": "viewer" })),
            "create_team" => post("/teams").json(&json!({ "name": "made" })),
            "create_sign_in_link" => post(&format!("/members/{}/sign-in-link", self.member)).json(&json!({})),
            "rotate_key" => post(&format!("/keys/{}/rotate", self.key)).json(&json!({})),
            "request_access" => post("/adapters/partner/gated/access-requests").json(&json!({})),
            "create_adapter" => post("/adapters").json(&json!({ "name": "made" })),
            "upload_version" => post("/adapters/acme/sst2/versions").multipart(AdapterFiles::tiny(1).form("1.0.0")),
            "begin_upload" => post("/adapters/acme/sst2/uploads").json(&announcement("2.0.0", b"weights")),
            "complete_upload" => completion(user, "acme/sst2", &self.upload, AdapterFiles::tiny(3).config_bytes()),
            "create_hook" => post("/hooks").json(&json!({ "name": "made" })),
            "publish_hook_version" => {
                post("/hooks/acme/mask/versions").multipart(component_form("1.0.0", component(1)))
            }
            _ => panic!("{id} is not known here"),
        };
        request.header("idempotency-key", "the same")
    }

    async fn send(&self, id: &str, user: &User) -> Response {
        self.request(id, user).send().await.unwrap()
    }
}

#[tokio::test]
async fn an_answer_is_repeated_to_who_could_have_done_it_and_to_nobody_else() {
    let field = Field::new().await;
    let all = ["inference", "adapters:read", "adapters:write", "keys:manage", "tenant:manage"];
    let first = field.stack.key_for("acme", &all).await;
    let may_nothing = field.stack.key_for("acme", &["inference"]).await;
    let may_less = field.stack.key_for("acme", &["adapters:write", "keys:manage", "tenant:manage"]).await;
    let may_as_much = field.stack.key_for("acme", &all).await;
    for id in CREATING {
        let is_operators = ["create_tenant", "create_service"].contains(&id);
        let who = if is_operators { &field.stack.admin } else { &first };
        let made = body(field.send(id, who).await, StatusCode::CREATED).await;
        let again = field.send(id, who).await;
        assert_eq!(again.headers()["idempotency-replayed"], "true", "{id}");
        let again = body(again, StatusCode::CREATED).await;
        assert_eq!((&again["id"], &again["name"]), (&made["id"], &made["name"]), "{id}");
        problem(field.send(id, &may_nothing).await, StatusCode::FORBIDDEN, "scope_missing").await;
        if !is_operators {
            // With the scope of the route, and not with all that the first had.
            problem(field.send(id, &may_less).await, StatusCode::FORBIDDEN, "scope_missing").await;
            let other = field.send(id, &may_as_much).await;
            assert_eq!(other.headers()["idempotency-replayed"], "true", "{id}");
        }
    }
    let stranger = field.stack.tenant("stranger").await;
    for id in ["upload_version", "begin_upload", "complete_upload", "publish_hook_version"] {
        problem(field.send(id, &stranger).await, StatusCode::NOT_FOUND, "not_found").await;
    }
    // What it was about is no more.
    assert_eq!(field.acme.delete("/adapters/acme/sst2").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(field.acme.delete("/hooks/acme/mask").await.status(), StatusCode::NO_CONTENT);
    for id in ["upload_version", "begin_upload", "complete_upload", "publish_hook_version"] {
        problem(field.send(id, &first).await, StatusCode::NOT_FOUND, "not_found").await;
    }
    let own = field.stack.principal(&first).await.key;
    assert_eq!(field.stack.admin.delete(&format!("/keys/{own}")).await.status(), StatusCode::NO_CONTENT);
    for id in CREATING {
        problem(field.send(id, &first).await, StatusCode::UNAUTHORIZED, "key_revoked").await;
    }
}
