//! Registrations, keys, uploads and the disk that they fill.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use souk_testkit::peft::{Files, Stored, Tensor, weights_file};
use tokio::io::AsyncWriteExt as _;

use crate::field::{Acts, Field, Tenant, adapter, form};
use crate::form::scale;
use crate::harm::{Harm, Seen};
use crate::raw::{connect, drip};
use crate::stack::Stack;

/// The smallest adapter: rank 1 on one projection of the first layer, 2 KiB.
fn tiny(number: usize) -> Files {
    let path = "layers.0.self_attn.q_proj";
    let mut a = Tensor::new(path, "lora_A.weight", Stored::F16, &[1, 576]);
    a.values[0] = number as f32;
    let b = Tensor::new(path, "lora_B.weight", Stored::F16, &[576, 1]);
    let config = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "bias": "none", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"], "layers_to_transform": [0],
    });
    Files { config: config.to_string().into_bytes(), weights: weights_file(&[a, b]) }
}

/// How long `ask` takes, so many times.
async fn times(num: usize, mut ask: impl AsyncFnMut(usize) -> reqwest::Response) -> Seen {
    let mut seen = Seen::default();
    for number in 0..num {
        let asked = Instant::now();
        let answer = ask(number).await;
        let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
        match status.is_success() {
            true => seen.waits.push(asked.elapsed()),
            false => seen.refusals.push(format!("{status} {text:.300}")),
        }
    }
    seen
}

/// Publications of small adapters by the innocent.
async fn publishes(innocent: &Tenant, round: &str, num: usize) -> Seen {
    let made = innocent.post("/registry/v1/adapters", &json!({ "name": round, "visibility": "private" })).await;
    assert!(made.status().is_success(), "{}", made.text().await.unwrap_or_default());
    let base = if round == "alone" { 10 } else { 100 };
    times(num, async |number| innocent.upload(round, form(&format!("1.0.{number}"), &tiny(base + number))).await).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_uploads_that_drip_leave_anothers_publication_its_turn() {
    let field = Field::start(&[("SOUK_REGISTRY__UPLOAD_IDLE_TIMEOUT_S", "30")]);
    let (innocent, hostile) = (field.tenant("innocent").await, field.tenant("hostile").await);
    let alone = publishes(&innocent, "alone", Field::num_asked()).await;
    let mut dripping = tokio::task::JoinSet::new();
    let num_acts = scale(20, 64);
    for number in 0..num_acts {
        let made = hostile.post("/registry/v1/adapters", &json!({ "name": format!("d{number}") })).await;
        assert_eq!(made.status(), 201);
        let head = format!(
            "POST /registry/v1/adapters/hostile/d{number}/versions HTTP/1.1\r\nhost: souk\r\nauthorization: Bearer {}\r\n\
             content-type: multipart/form-data; boundary=cut\r\ncontent-length: 100000000\r\n\r\n--cut\r\n\
             content-disposition: form-data; name=\"version\"\r\n\r\n1.0.0\r\n--cut\r\n\
             content-disposition: form-data; name=\"adapter_model.safetensors\"; filename=\"x\"\r\n\r\n",
            hostile.key
        );
        let mut stream = connect(&field, number).await;
        stream.write_all(head.as_bytes()).await.expect("the server reads");
        dripping.spawn(async move { drip(&mut stream, Duration::from_millis(200)).await });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let beside = publishes(&innocent, "beside", Field::num_asked()).await;
    let act = "uploads that drip (publications of a small adapter)";
    Harm { act, num_acts, alone: &alone, beside: &beside }.told(&field.stack);
    drop(dripping);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_public_adapters_of_one_tenant_leave_anothers_list_of_models_short() {
    let field = Field::start(&[]);
    let (innocent, hostile) = (field.tenant("innocent").await, field.tenant("hostile").await);
    innocent.publish("own", "private", &tiny(0)).await;
    let list = async |_| innocent.get("/v1/models").await;
    let alone = times(Field::num_asked(), list).await;
    let owner = hostile.clone();
    let mut made = Acts::begin(4, scale(100, 10_000), move |number| {
        let tenant = owner.clone();
        async move {
            let name = json!({ "name": format!("n{number}"), "visibility": "public" });
            let answer = tenant.post("/registry/v1/adapters", &name).await;
            // A count may have its share, too.
            if answer.status() == 201 {
                drop(tenant.upload(&format!("n{number}"), form("1.0.0", &tiny(number))).await.bytes().await);
            }
        }
    });
    made.end().await;
    let askers = Acts::begin(16, usize::MAX, move |_| {
        let tenant = hostile.clone();
        async move { drop(tenant.get("/v1/models").await.bytes().await) }
    });
    while askers.num() < 16 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let beside = times(Field::num_asked(), list).await;
    let act = "public adapters, and 16 who list models (lists of models)";
    Harm { act, num_acts: made.num() + askers.num(), alone: &alone, beside: &beside }.told(&field.stack);
    let listed: Value = innocent.get("/v1/models").await.json().await.expect("JSON");
    let ids: Vec<_> =
        listed["data"].as_array().expect("a list").iter().filter_map(|model| model["id"].as_str()).collect();
    assert!(ids.contains(&"innocent/own"), "one's own is listed whatever others have: {} are", ids.len());
    assert_eq!(innocent.get("/v1/models/innocent/own").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_without_end_of_one_tenant_leave_anothers_keys_alone() {
    let field = Field::start(&[]);
    let (innocent, hostile) = (field.tenant("innocent").await, field.tenant("hostile").await);
    let key = async |_| innocent.post("/registry/v1/keys", &json!({ "name": "k", "scopes": ["inference"] })).await;
    let alone = times(Field::num_asked(), key).await;
    let acts = Acts::begin(8, scale(300, 10_000), move |number| {
        let tenant = hostile.clone();
        async move {
            let key = json!({ "name": format!("k{number}"), "scopes": ["inference"] });
            drop(tenant.post("/registry/v1/keys", &key).await.bytes().await);
        }
    });
    let beside = times(Field::num_asked(), key).await;
    let inference = field.asks(&innocent, 2).await;
    assert!(inference.refusals.is_empty(), "{:?}", inference.refusals);
    Harm { act: "keys without end (keys made)", num_acts: acts.num(), alone: &alone, beside: &beside }
        .told(&field.stack);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(can_mount), ignore = "needs leave to mount: unshare --map-root-user --mount")]
async fn a_disk_that_one_tenant_fills_keeps_room_for_revocations_take_downs_and_inference() {
    // As small as the packed tier and the reserve leave something to fill.
    let field = Field {
        stack: Stack::start_on_small_disk(
            24,
            &[("SOUK_ADAPTERS__DISK_MB", "0"), ("SOUK_REGISTRY__DISK_RESERVE_MB", "6")],
        ),
    };
    let (innocent, hostile) = (field.tenant("innocent").await, field.tenant("hostile").await);
    let alone = field.asks(&innocent, Field::num_asked()).await;
    hostile.publish("first", "private", &tiny(1)).await;
    let made = hostile.post("/registry/v1/adapters", &json!({ "name": "large" })).await;
    assert_eq!(made.status(), 201);
    let (mut num_acts, mut last) = (0, 201);
    while last == 201 && num_acts < 20 {
        let files = adapter(16, num_acts as u8);
        last = hostile.upload("large", form(&format!("1.0.{num_acts}"), &files)).await.status().as_u16();
        num_acts += 1;
    }
    assert!([413, 429, 507].contains(&last), "the disk is full after {num_acts} uploads: {last}");
    // And whatever small rows and files still find a place.
    for number in 0..scale(40, 1000) {
        let files = tiny(1000 + number);
        drop(hostile.upload("large", form(&format!("2.0.{number}"), &files)).await.bytes().await);
        num_acts += 1;
    }
    let beside = field.asks(&innocent, Field::num_asked()).await;
    Harm { act: "a disk that is filled", num_acts, alone: &alone, beside: &beside }.told(&field.stack);
    let down = "/registry/v1/adapters/hostile/first/versions/1.0.0/take-down";
    let (status, answer) = field.stack.post(down, &json!({ "reason": "a test" })).await;
    assert_eq!(status, 200, "a take-down is the operator's: {answer}");
    let keys: Value = hostile.get("/registry/v1/keys").await.json().await.expect("JSON");
    let id = keys["data"][0]["id"].as_str().expect("a key");
    let revoked = field.stack.http().delete(format!("{}/registry/v1/keys/{id}", field.stack.url)).send().await;
    let revoked = revoked.expect("an answer");
    assert!(revoked.status().is_success(), "a revocation: {}", revoked.text().await.unwrap_or_default());
    assert_eq!(hostile.get("/v1/models").await.status(), 401, "a revoked key does nothing");
}
