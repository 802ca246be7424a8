//! Events reach whoever wants them, signed, at least once, and nobody else.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode as Status, header};
use axum::response::{IntoResponse as _, Response as Answer};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::{Method, StatusCode};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use sha2::Sha256;
use souk_http::serve::Networks;
use souk_registry::RegistryConfig;

use crate::browser::Browser;
use crate::support::{Stack, User, body, in_haste, problem, wait_until};

/// A server that takes deliveries.
#[derive(Clone)]
struct Receiver {
    url: String,
    taken: Arc<Mutex<Vec<Taken>>>,
    says: Arc<Mutex<Says>>,
}

#[derive(Clone, Debug)]
struct Taken {
    headers: HeaderMap,
    body: String,
}

/// What it answers.
#[derive(Clone, Debug)]
enum Says {
    Status(u16, &'static str),
    /// Another address.
    Elsewhere(String),
    /// Nothing, ever.
    Nothing,
}

impl Receiver {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let receiver = Self { url, taken: Arc::default(), says: Arc::new(Mutex::new(Says::Status(204, ""))) };
        let router = Router::new().fallback(take).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        receiver
    }

    fn says(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    fn taken(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().clone()
    }

    async fn wait_for(&self, number: usize) -> Vec<Taken> {
        wait_until(&format!("{number} deliveries"), async || self.taken().len() >= number).await;
        self.taken()
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> Answer {
    receiver.taken.lock().unwrap().push(Taken { headers, body });
    let says = receiver.says.lock().unwrap().clone();
    match says {
        Says::Status(status, text) => (Status::from_u16(status).unwrap(), text).into_response(),
        Says::Elsewhere(url) => (Status::FOUND, [(header::LOCATION, url)]).into_response(),
        Says::Nothing => std::future::pending().await,
    }
}

impl Taken {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Which of its signatures are of this secret.
    fn signed_with(&self, secret: &str) -> Vec<bool> {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        let (id, at) = (self.header("webhook-id"), self.header("webhook-timestamp"));
        mac.update(format!("{id}.{at}.{}", self.body).as_bytes());
        let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        self.header("webhook-signature").split(' ').map(|one| one == expected).collect()
    }
}

/// Deliveries to this host, soon and again soon.
fn hooked(config: &mut RegistryConfig) {
    in_haste(config);
    let webhooks = &mut config.settings.webhooks;
    webhooks.allow_http = true;
    webhooks.allowed_networks = Networks::parse(&["127.0.0.1".to_owned()]).unwrap();
    webhooks.look_every = Duration::from_millis(25);
    (webhooks.first_retry, webhooks.longest_retry) = (Duration::from_millis(50), Duration::from_millis(100));
}

/// A tenant, and who manages it.
async fn tenant(stack: &Stack, name: &str) -> (User, User) {
    let user = stack.tenant(name).await;
    (user, stack.key_for(name, &["tenant:manage"]).await)
}

async fn hook(manager: &User, url: &str, kinds: &[&str]) -> Value {
    let made = manager.post("/webhooks", json!({ "url": url, "kinds": kinds })).await;
    body(made, StatusCode::CREATED).await
}

fn id(made: &Value) -> &str {
    made["id"].as_str().unwrap()
}

async fn deliveries(manager: &User, made: &Value) -> Vec<Value> {
    let page = body(manager.get(&format!("/webhooks/{}/deliveries", id(made))).await, StatusCode::OK).await;
    page["data"].as_array().unwrap().clone()
}

/// Waits until the newest delivery to a webhook is in this state.
async fn until(manager: &User, made: &Value, state: &str) -> Value {
    let newest = async || deliveries(manager, made).await.first().cloned().unwrap_or_default();
    wait_until(&format!("the delivery is {state}"), async || newest().await["state"] == state).await;
    newest().await
}

#[tokio::test]
async fn events_go_signed_to_each_webhook_that_wants_them() {
    let stack = Stack::start_with(hooked).await;
    let (acme, manager) = tenant(&stack, "acme").await;
    let (_, rival) = tenant(&stack, "rival").await;
    let (all, keys, others) = (Receiver::start().await, Receiver::start().await, Receiver::start().await);
    let made = hook(&manager, &all.url, &[]).await;
    hook(&manager, &keys.url, &["key.revoked", "key.leaked"]).await;
    hook(&rival, &others.url, &[]).await;
    acme.make_adapter("sst2", "private").await;
    let version = acme.publish("acme/sst2", "1.0.0", 1).await;
    let key =
        body(acme.post("/keys", json!({ "name": "k", "scopes": ["inference"] })).await, StatusCode::CREATED).await;
    assert_eq!(acme.delete(&format!("/keys/{}", id(&key))).await.status(), StatusCode::NO_CONTENT);

    let taken = all.wait_for(2).await;
    let of_kind = |kind: &str| taken.iter().find(|one| one.json()["type"] == kind).unwrap();
    let ready = of_kind("version.ready");
    assert_eq!(ready.signed_with(made["secret"].as_str().unwrap()), [true]);
    assert!(ready.header("webhook-id").starts_with("evt_"));
    assert_eq!(ready.header("content-type"), "application/json");
    let at: i64 = ready.header("webhook-timestamp").parse().unwrap();
    assert!((souk_protocol::wall_clock::since_epoch().as_secs().cast_signed() - at).abs() < 60);
    let told = ready.json();
    assert_eq!((&told["subject"], &told["data"]["digest"]), (&json!("acme/sst2@1.0.0"), &version["digest"]));
    assert_eq!(of_kind("key.revoked").json()["data"]["keys"], json!([id(&key)]));
    let taken = keys.wait_for(1).await;
    assert_eq!(taken[0].json()["type"], "key.revoked");
    let done = until(&manager, &made, "delivered").await;
    assert_eq!((&done["attempts"], &done["answer_status"], &done["failure"]), (&json!(1), &json!(204), &Value::Null));
    assert_eq!((keys.taken().len(), others.taken().len()), (1, 0), "nobody else hears of it");
}

#[tokio::test]
async fn both_secrets_sign_while_one_follows_the_other() {
    let stack = Stack::start_with(hooked).await;
    let (acme, manager) = tenant(&stack, "acme").await;
    let receiver = Receiver::start().await;
    let made = hook(&manager, &receiver.url, &[]).await;
    let rotate = format!("/webhooks/{}/rotate-secret", id(&made));
    let rotated = body(manager.post(&rotate, json!({})).await, StatusCode::CREATED).await;
    assert!(rotated["secret_before_until"].is_string());
    let (before, now) = (made["secret"].as_str().unwrap(), rotated["secret"].as_str().unwrap());
    assert_ne!(before, now);
    acme.make_adapter("sst2", "private").await;
    acme.publish("acme/sst2", "1.0.0", 1).await;
    let taken = receiver.wait_for(1).await;
    assert_eq!((taken[0].signed_with(now), taken[0].signed_with(before)), (vec![true, false], vec![false, true]));
    // Its time is over.
    let db = stack.database().await;
    db.execute_unprepared("UPDATE webhook_endpoints SET secret_before_until_ms = 1").await.unwrap();
    acme.publish("acme/sst2", "2.0.0", 2).await;
    let taken = receiver.wait_for(2).await;
    assert_eq!(taken[1].signed_with(now), [true]);

    // Secrets are shown once and are not in the database.
    let shown = body(manager.get(&format!("/webhooks/{}", id(&made))).await, StatusCode::OK).await;
    assert!(!shown.to_string().contains("whsec_") && shown["secret_before_until"].is_null(), "{shown}");
    let sealed = stack.number("SELECT count(*) AS n FROM webhook_endpoints WHERE length(sealed_secret) > 40").await;
    assert_eq!(sealed, 1);
    let once = || manager.request(reqwest::Method::POST, "/webhooks").header("idempotency-key", "k");
    let request = json!({ "url": receiver.url });
    let first = body(once().json(&request).send().await.unwrap(), StatusCode::CREATED).await;
    let again = body(once().json(&request).send().await.unwrap(), StatusCode::CREATED).await;
    assert!(first["secret"].is_string() && again["secret"].is_null() && first["id"] == again["id"]);
}

#[tokio::test]
async fn what_fails_is_tried_again_until_it_is_taken_and_its_owner_sees_why() {
    let stack = Stack::start_with(hooked).await;
    let (acme, manager) = tenant(&stack, "acme").await;
    let receiver = Receiver::start().await;
    receiver.says(Says::Status(500, "out of order\u{7}"));
    let made = hook(&manager, &receiver.url, &[]).await;
    acme.make_adapter("sst2", "private").await;
    acme.publish("acme/sst2", "1.0.0", 1).await;
    let taken = receiver.wait_for(3).await;
    let failing = deliveries(&manager, &made).await.remove(0);
    assert_eq!((&failing["state"], &failing["answer_status"]), (&json!("pending"), &json!(500)));
    assert_eq!(failing["failure"], "not_success");
    assert!(failing["answer_excerpt"].as_str().unwrap().starts_with("out of order"));
    assert!(failing["due_at"].is_string() && failing["attempts"].as_i64().unwrap() >= 2, "{failing}");
    let shown = body(manager.get(&format!("/webhooks/{}", id(&made))).await, StatusCode::OK).await;
    assert!(shown["failing_since"].is_string());
    receiver.says(Says::Status(200, "thank you"));
    let done = until(&manager, &made, "delivered").await;
    assert_eq!((&done["answer_excerpt"], &done["failure"]), (&json!("thank you"), &Value::Null));
    // Each try is of the same message.
    for one in &taken {
        assert_eq!((one.header("webhook-id"), &one.body), (done["event_id"].as_str().unwrap(), &taken[0].body));
        assert_eq!(one.signed_with(made["secret"].as_str().unwrap()), [true]);
    }
    let shown = body(manager.get(&format!("/webhooks/{}", id(&made))).await, StatusCode::OK).await;
    assert!(shown["failing_since"].is_null());
}

#[tokio::test]
async fn what_fails_for_too_long_is_given_up_and_can_be_sent_again() {
    let stack = Stack::start_with(|config| {
        hooked(config);
        config.settings.webhooks.retry_for = Duration::from_millis(300);
    })
    .await;
    let (acme, manager) = tenant(&stack, "acme").await;
    let receiver = Receiver::start().await;
    receiver.says(Says::Status(503, ""));
    let made = hook(&manager, &receiver.url, &[]).await;
    acme.make_adapter("sst2", "private").await;
    acme.publish("acme/sst2", "1.0.0", 1).await;
    let dead = until(&manager, &made, "dead").await;
    assert!(dead["ended_at"].is_string() && dead["due_at"].is_null() && dead["answer_status"] == 503, "{dead}");
    let path = format!("/webhooks/{}/deliveries", id(&made));
    let listed = body(manager.get(&format!("{path}?state=delivered")).await, StatusCode::OK).await;
    assert_eq!(listed["data"], json!([]));
    receiver.says(Says::Status(204, ""));
    let replay = manager.post(&format!("{path}/{}/replay", id(&dead)), json!({})).await;
    let replay = body(replay, StatusCode::CREATED).await;
    assert_eq!((&replay["replay_of"], &replay["event_id"]), (&dead["id"], &dead["event_id"]));
    let done = until(&manager, &made, "delivered").await;
    assert_eq!((done["id"].clone(), done["attempts"].clone()), (replay["id"].clone(), json!(1)));
    let first = body(manager.get(&format!("{path}/{}", id(&dead))).await, StatusCode::OK).await;
    assert_eq!(first, dead, "what became of the first stays");
}

#[tokio::test]
async fn no_redirect_is_followed_and_no_address_reached_that_is_not_public() {
    let stack = Stack::start_with(|config| {
        hooked(config);
        config.settings.webhooks.allowed_networks = Networks::parse(&["127.0.0.2".to_owned()]).unwrap();
    })
    .await;
    let (acme, manager) = tenant(&stack, "acme").await;
    let receiver = Receiver::start().await;
    let port = receiver.url.rsplit(':').next().unwrap();
    // Looked at when it is made, where it is an address, and when it is connected to, where it is a name.
    for literal in ["127.0.0.1", "[::ffff:127.0.0.1]", "2130706433", "10.0.0.1", "169.254.169.254"] {
        let refused = manager.post("/webhooks", json!({ "url": format!("http://{literal}:{port}") })).await;
        let refused = problem(refused, StatusCode::BAD_REQUEST, "invalid_fields").await;
        assert_eq!(refused["errors"][0]["subject"], "url", "{refused}");
    }
    let inside = hook(&manager, &format!("http://localhost:{port}"), &[]).await;
    // From where it may be to where it may not.
    let listener = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
    let (url, target) = (format!("http://{}/", listener.local_addr().unwrap()), receiver.url.clone());
    let elsewhere = Receiver { url, taken: Arc::default(), says: Arc::new(Mutex::new(Says::Elsewhere(target))) };
    let router = Router::new().fallback(take).with_state(elsewhere.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let redirected = hook(&manager, &elsewhere.url, &[]).await;
    acme.make_adapter("sst2", "private").await;
    acme.publish("acme/sst2", "1.0.0", 1).await;
    for (made, failure) in [(&inside, "address_refused"), (&redirected, "redirect_not_followed")] {
        wait_until(failure, async || deliveries(&manager, made).await[0]["failure"] == failure).await;
    }
    elsewhere.wait_for(2).await;
    assert_eq!(receiver.taken().len(), 0, "nothing has come where nothing may");
}

#[tokio::test]
async fn a_webhook_that_fails_for_long_is_paused_and_what_happens_meanwhile_waits() {
    let stack = Stack::start_with(|config| {
        hooked(config);
        config.settings.webhooks.pause_after = Duration::from_millis(300);
    })
    .await;
    let (acme, manager) = tenant(&stack, "acme").await;
    let (failing, gone) = (Receiver::start().await, Receiver::start().await);
    failing.says(Says::Status(500, ""));
    gone.says(Says::Status(410, ""));
    let made = [hook(&manager, &failing.url, &[]).await, hook(&manager, &gone.url, &[]).await];
    acme.make_adapter("sst2", "private").await;
    acme.publish("acme/sst2", "1.0.0", 1).await;
    let shown = async |made: &Value| body(manager.get(&format!("/webhooks/{}", id(made))).await, StatusCode::OK).await;
    for (made, told) in made.iter().zip(["with the answer 500", "410 Gone"]) {
        wait_until("it is paused", async || shown(made).await["state"] == "paused").await;
        let reason = shown(made).await["paused_reason"].as_str().unwrap().to_owned();
        assert!(reason.contains(told), "{reason}");
    }
    assert_eq!(gone.taken().len(), 1);
    acme.publish("acme/sst2", "2.0.0", 2).await;
    let waiting = deliveries(&manager, &made[0]).await;
    assert_eq!((waiting.len(), &waiting[0]["attempts"]), (2, &json!(0)), "{waiting:?}");
    let before = failing.taken().len();
    failing.says(Says::Status(204, ""));
    let path = format!("/webhooks/{}", id(&made[0]));
    let enabled = body(manager.patch(&path, json!({ "enabled": true })).await, StatusCode::OK).await;
    assert_eq!((&enabled["state"], &enabled["paused_reason"]), (&json!("enabled"), &Value::Null));
    failing.wait_for(before + 2).await;
    wait_until("both are delivered", async || {
        deliveries(&manager, &made[0]).await.iter().all(|one| one["state"] == "delivered")
    })
    .await;
    let paused = "SELECT count(*) AS n FROM audit_entries WHERE action = 'webhook.paused' AND actor_kind = 'system'";
    assert_eq!(stack.number(paused).await, 2);
}

#[tokio::test]
async fn endpoints_that_never_answer_hold_up_nobody_elses_deliveries() {
    let stack = Stack::start_with(|config| {
        hooked(config);
        config.settings.webhooks.max_concurrent = 8;
        config.settings.webhooks.timeout = Duration::from_secs(100);
    })
    .await;
    let (flood, flooding) = tenant(&stack, "flood").await;
    let (acme, manager) = tenant(&stack, "acme").await;
    let silent = Receiver::start().await;
    silent.says(Says::Nothing);
    for _ in 0..3 {
        hook(&flooding, &silent.url, &[]).await;
    }
    flood.make_adapter("sst2", "private").await;
    for number in 0..4 {
        flood.publish("flood/sst2", &format!("1.0.{number}"), number).await;
    }
    // All but the place that is kept for those who have none.
    silent.wait_for(7).await;
    let receiver = Receiver::start().await;
    hook(&manager, &receiver.url, &[]).await;
    acme.make_adapter("sst2", "private").await;
    for number in 10..15 {
        acme.publish("acme/sst2", &format!("1.0.{number}"), number).await;
    }
    assert_eq!(receiver.wait_for(5).await.len(), 5);
    assert_eq!(silent.taken().len(), 7);
}

#[tokio::test]
async fn an_endpoint_that_never_answers_leaves_places_for_others_of_its_tenant() {
    let stack = Stack::start_with(|config| {
        hooked(config);
        config.settings.webhooks.timeout = Duration::from_secs(100);
    })
    .await;
    let (acme, manager) = tenant(&stack, "acme").await;
    let (silent, receiver) = (Receiver::start().await, Receiver::start().await);
    silent.says(Says::Nothing);
    hook(&manager, &silent.url, &[]).await;
    hook(&manager, &receiver.url, &[]).await;
    acme.make_adapter("sst2", "private").await;
    for number in 0..8 {
        acme.publish("acme/sst2", &format!("1.0.{number}"), number).await;
    }
    assert_eq!(receiver.wait_for(8).await.len(), 8);
    assert_eq!(silent.wait_for(4).await.len(), 4);
}

#[tokio::test]
async fn of_two_registries_one_delivers_and_what_a_dead_one_had_the_other_takes() {
    let first = Stack::start_with(hooked).await;
    let (acme, manager) = tenant(&first, "acme").await;
    let receiver = Receiver::start().await;
    let made = hook(&manager, &receiver.url, &[]).await;
    let second = Stack::start_in(first.folder.clone(), hooked).await;
    acme.make_adapter("sst2", "private").await;
    for number in 0..10 {
        acme.publish("acme/sst2", &format!("1.0.{number}"), number).await;
    }
    wait_until("all are delivered", async || {
        let all = deliveries(&manager, &made).await;
        all.len() == 10 && all.iter().all(|one| one["state"] == "delivered")
    })
    .await;
    let mut ids: Vec<_> = receiver.taken().iter().map(|one| one.header("webhook-id").to_owned()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), receiver.taken().len()), (10, 10), "each once");

    // One has it and says nothing any more; its lease ends.
    receiver.says(Says::Nothing);
    acme.publish("acme/sst2", "2.0.0", 20).await;
    receiver.wait_for(11).await;
    receiver.says(Says::Status(204, ""));
    let db = first.database().await;
    db.execute_unprepared("UPDATE webhook_deliveries SET due_at_ms = 1 WHERE state = 'pending'").await.unwrap();
    let done = until(&manager, &made, "delivered").await;
    assert_eq!(done["attempts"], 2);
    assert_eq!(receiver.taken().len(), 12);
    drop(second);
}

#[tokio::test]
async fn webhooks_are_their_tenants_alone_and_bounded_in_number() {
    let stack = Stack::start_with(|config| {
        hooked(config);
        config.settings.webhooks.max_endpoints_per_tenant = 2;
        config.settings.webhooks.look_every = Duration::from_secs(3600);
    })
    .await;
    let (acme, manager) = tenant(&stack, "acme").await;
    let (_, rival) = tenant(&stack, "rival").await;
    let made = hook(&manager, "https://hooks.invalid/one", &["version.ready"]).await;
    hook(&manager, "https://hooks.invalid/two", &[]).await;
    let third = manager.post("/webhooks", json!({ "url": "https://hooks.invalid/three" })).await;
    let third = problem(third, StatusCode::CONFLICT, "too_many").await;
    assert!(third["detail"].as_str().unwrap().contains("registry.webhooks.max_endpoints_per_tenant is 2"), "{third}");
    problem(acme.get("/webhooks").await, StatusCode::FORBIDDEN, "scope_missing").await;
    let path = format!("/webhooks/{}", id(&made));
    acme.make_adapter("sst2", "private").await;
    acme.publish("acme/sst2", "1.0.0", 1).await;
    let delivery = deliveries(&manager, &made).await.remove(0);
    let sent = format!("{path}/deliveries/{}", id(&delivery));
    for other in [&rival, &stack.admin] {
        for answer in [
            other.get(&path).await,
            other.patch(&path, json!({})).await,
            other.delete(&path).await,
            other.post(&format!("{path}/rotate-secret"), json!({})).await,
            other.get(&format!("{path}/deliveries")).await,
            other.get(&sent).await,
            other.post(&format!("{sent}/replay"), json!({})).await,
        ] {
            problem(answer, StatusCode::NOT_FOUND, "not_found").await;
        }
    }
    let bad = json!({ "url": "https://hooks.invalid/", "kinds": ["version.ready", "version.lost"] });
    let bad = problem(manager.post("/webhooks", bad).await, StatusCode::BAD_REQUEST, "invalid_fields").await;
    assert_eq!(bad["errors"][0]["subject"], "kinds[1]", "{bad}");
    let listed = body(manager.get("/webhooks?limit=1").await, StatusCode::OK).await;
    assert_eq!((&listed["data"][0]["id"], listed["next_cursor"].is_string()), (&made["id"], true));
    assert_eq!(manager.delete(&path).await.status(), StatusCode::NO_CONTENT);
    problem(manager.get(&path).await, StatusCode::NOT_FOUND, "not_found").await;
    let left = "SELECT count(*) AS n FROM webhook_endpoints WHERE length(sealed_secret) > 0 AND url <> ''";
    assert_eq!(stack.number(left).await, 1);
    hook(&manager, "https://hooks.invalid/three", &[]).await;
}

/// Does what acme hears of its versions and keys.
async fn work_with_versions_and_keys(stack: &Stack, acme: &User) {
    acme.make_adapter("sst2", "private").await;
    acme.publish("acme/sst2", "1.0.0", 1).await;
    acme.publish("acme/sst2", "2.0.0", 2).await;
    let versions = "/adapters/acme/sst2/versions";
    for (user, path, request) in [
        (acme, format!("{versions}/1.0.0/yank"), json!({})),
        (acme, format!("{versions}/1.0.0/unyank"), json!({})),
        (&stack.admin, format!("{versions}/1.0.0/take-down"), json!({ "reason": "stolen weights" })),
    ] {
        assert_eq!(user.post(&path, request).await.status(), StatusCode::OK, "{path}");
    }
    assert_eq!(acme.delete(&format!("{versions}/2.0.0")).await.status(), StatusCode::NO_CONTENT);
    work_with_hooks(stack, acme).await;
    let key = async || {
        body(acme.post("/keys", json!({ "name": "k", "scopes": ["inference"] })).await, StatusCode::CREATED).await
    };
    assert_eq!(acme.delete(&format!("/keys/{}", id(&key().await))).await.status(), StatusCode::NO_CONTENT);
    let found = json!([{ "token": key().await["secret"], "url": "https://example.org/commit/1" }]);
    let reported = reqwest::Client::new().post(format!("{}/keys/revoke", stack.base_url)).json(&found);
    assert_eq!(reported.send().await.unwrap().status(), StatusCode::ACCEPTED);
}

/// Does what acme hears of its hooks.
async fn work_with_hooks(stack: &Stack, acme: &User) {
    acme.make_hook("mask", "private").await;
    acme.publish_hook("acme/mask", "1.0.0", 1).await;
    let version = "/hooks/acme/mask/versions/1.0.0";
    for (user, act, request) in [
        (acme, "yank", json!({})),
        (acme, "unyank", json!({})),
        (&stack.admin, "take-down", json!({ "reason": "it sends prompts elsewhere" })),
    ] {
        assert_eq!(user.post(&format!("{version}/{act}"), request).await.status(), StatusCode::OK, "{act}");
    }
    assert_eq!(acme.delete(version).await.status(), StatusCode::NO_CONTENT);
}

/// Does what acme hears of a member with a key who is removed.
async fn work_with_members(stack: &Stack, manager: &User) {
    let browser = Browser::of_member(stack, "acme", "developer").await;
    let key = browser.change(Method::POST, "/keys", json!({ "name": "laptop", "scopes": ["inference"] })).await;
    assert_eq!(body(key, StatusCode::CREATED).await["kind"], "personal");
    let member = format!("/members/{}", browser.person().await);
    assert_eq!(manager.delete(&member).await.status(), StatusCode::NO_CONTENT);
}

/// Does what acme hears of access: as owner of a request, as who asks of a decision, as who is granted something of that.
async fn work_with_access(stack: &Stack, acme: &User) {
    stack.tenant("rival").await;
    let rival = stack.key_for("rival", &["adapters:read", "adapters:write", "access:decide"]).await;
    let ask = async |user: &User, adapter: &str| {
        body(user.post(&format!("/adapters/{adapter}/access-requests"), json!({})).await, StatusCode::CREATED).await
    };
    acme.make_adapter("gated", "gated").await;
    rival.make_adapter("gated", "gated").await;
    rival.make_adapter("shared", "shared").await;
    ask(&rival, "acme/gated").await;
    let request = ask(acme, "rival/gated").await;
    let approve = format!("/access-requests/{}/approve", id(&request));
    body(stack.admin.post(&approve, json!({})).await, StatusCode::OK).await;
    let grant = "/adapters/rival/shared/grants/acme";
    body(rival.put(grant, json!({})).await, StatusCode::OK).await;
    assert_eq!(rival.delete(grant).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn the_page_shows_what_is_sent() {
    let stack = Stack::start_with(|config| {
        hooked(config);
        config.limits.tokens_per_month = 100;
    })
    .await;
    let (acme, manager) = tenant(&stack, "acme").await;
    let receiver = Receiver::start().await;
    hook(&manager, &receiver.url, &[]).await;
    work_with_versions_and_keys(&stack, &acme).await;
    work_with_members(&stack, &manager).await;
    work_with_access(&stack, &acme).await;
    let of = stack.principal(&acme).await;
    let half = souk_testkit::usage::request(&of.tenant, of.key.as_str(), 0, (50, 0));
    stack.registry.write_usage(&[half]).await.unwrap();

    // As (kind, fields of the body, fields of its data).
    let fields = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let look = |event: &Value| (event["type"].to_string(), fields(event), fields(&event["data"]));
    let page = include_str!("../../../docs/webhooks.md");
    let shown = page.split("```json\n").skip(1).map(|block| block.split("```").next().unwrap());
    let shown: BTreeSet<_> = shown.map(|block| look(&serde_json::from_str(block).unwrap())).collect();
    let sent: BTreeSet<_> = receiver.wait_for(19).await.iter().map(|one| look(&one.json())).collect();
    assert_eq!(sent, shown, "docs/webhooks.md shows each of its forms, and none that is not sent");
    // Of a decision there are two, and of revoked keys.
    assert_eq!(sent.len(), 17, "{sent:?}");
    let kinds: BTreeSet<_> = sent.iter().map(|(kind, ..)| kind).collect();
    assert_eq!(kinds.len(), 15, "{kinds:?}");
}
