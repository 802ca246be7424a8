//! An upload passes through memory; it is not gathered there. A process of its own, so that nothing else is measured.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use futures::stream;
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Client, StatusCode};
use sea_orm::ConnectionTrait as _;
use souk_registry::{Registry, RegistryConfig, open_sqlite};

const CHUNK_BYTES: usize = 64 * 1024;
const NUM_CHUNKS: usize = 2048;

/// The most memory that this process had resident, in KiB.
fn peak_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_upload_of_128_mib_takes_a_fraction_of_that_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open_embedded(RegistryConfig::new(folder.path()), Vec::new()).await.unwrap();
    let key = registry.bootstrap().await.unwrap().unwrap().expose().to_owned();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/registry/v1/adapters", listener.local_addr().unwrap());
    let (router, _) = souk_registry::router(registry);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let client = Client::new();
    let made = client.post(&url).bearer_auth(&key).json(&serde_json::json!({ "name": "large" })).send().await.unwrap();
    assert_eq!(made.status(), StatusCode::CREATED);

    let data_bytes = NUM_CHUNKS * CHUNK_BYTES;
    let tensor = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    let shape = format!("[1,{}]", data_bytes / 4);
    let header = format!(r#"{{"{tensor}":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{data_bytes}]}}}}"#);
    let head = Bytes::from([&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat());
    let zeros = Bytes::from(vec![0; CHUNK_BYTES]);
    let chunks = std::iter::once(head).chain(std::iter::repeat_n(zeros, NUM_CHUNKS)).map(Ok::<_, std::io::Error>);
    let form = Form::new()
        .text("version", "1.0.0")
        .part("adapter_model.safetensors", Part::stream(Body::wrap_stream(stream::iter(chunks))))
        .part("adapter_config.json", Part::bytes(br#"{"peft_type":"LORA","r":1}"#.to_vec()));
    let before_kib = peak_kib();
    let answer =
        client.post(format!("{url}/admin/large/versions")).bearer_auth(&key).multipart(form).send().await.unwrap();
    // Taken in whole, then rejected: this registry has no base model.
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let grown_kib = peak_kib() - before_kib;
    assert!(grown_kib < 32 * 1024, "an upload of {} KiB took {grown_kib} KiB", data_bytes / 1024);
}

#[tokio::test]
async fn an_export_of_200_000_audit_entries_takes_a_fraction_of_that_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open_embedded(RegistryConfig::new(folder.path()), Vec::new()).await.unwrap();
    let key = registry.bootstrap().await.unwrap().unwrap().expose().to_owned();
    let db = open_sqlite(&folder.path().join("registry.sqlite")).await.unwrap();
    // Nothing looks at their hashes here.
    db.execute_unprepared(
        "INSERT INTO audit_entries (tenant_id, number, at_ms, actor_kind, actor_id, action, subject, details, hash)
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)
         SELECT 'installation', i, i, 'system', '', 'signing_key.rotated', printf('%0200d', i), '{}', printf('%064d', i)
         FROM n;
         INSERT INTO audit_heads (tenant_id, number, hash) VALUES ('installation', 200000, printf('%064d', 200000))",
    )
    .await
    .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/registry/v1/audit/export?installation=true", listener.local_addr().unwrap());
    let (router, _) = souk_registry::router(registry);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let before = peak_kib();
    let mut answer = Client::new().get(&url).bearer_auth(&key).send().await.unwrap();
    let (mut num_bytes, mut num_lines) = (0, 0);
    while let Some(piece) = answer.chunk().await.unwrap() {
        num_bytes += piece.len();
        num_lines += piece.iter().filter(|byte| **byte == b'\n').count();
    }
    assert_eq!(num_lines, 200_002);
    let grown = (peak_kib() - before) * 1024;
    assert!(grown < num_bytes / 4, "{num_bytes} bytes were exported and memory grew by {grown}");
}
