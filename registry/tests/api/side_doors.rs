//! Ways around the front door: the file system below, a database that others hold, texts that are too long.

use reqwest::StatusCode;

use crate::support::{Stack, problem};

#[tokio::test]
async fn a_long_text_to_search_for_is_refused_with_the_limit() {
    let stack = Stack::start().await;
    let answer = stack.admin.get(&format!("/adapters?search={}", "a".repeat(60_000))).await;
    let answer = problem(answer, StatusCode::BAD_REQUEST, "invalid_query").await;
    let detail = answer["detail"].as_str().unwrap();
    assert!(detail.contains("`search`") && detail.contains("200") && detail.contains("60000"), "{detail}");
    assert_eq!(stack.admin.get(&format!("/adapters?search={}", "ä".repeat(200))).await.status(), StatusCode::OK);
    let long = "a".repeat(3001);
    for (path, name, limit) in [
        ("/adapters?owner=", "owner", "64"),
        ("/adapters?cursor=", "cursor", "3000"),
        ("/keys?tenant=", "tenant", "64"),
        ("/keys?cursor=", "cursor", "3000"),
        ("/tenants?cursor=", "cursor", "3000"),
    ] {
        let answer = stack.admin.get(&format!("{path}{long}")).await;
        let answer = problem(answer, StatusCode::BAD_REQUEST, "invalid_query").await;
        let detail = answer["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("`{name}`")) && detail.contains(limit) && detail.contains("3001"), "{detail}");
    }
}

#[tokio::test]
async fn a_corrupted_object_is_never_sent_under_the_digest_of_the_good_one() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    let version = acme.publish("acme/sst2", "1.0.0", 1).await;
    let file = version["files"].as_array().unwrap().iter().find(|file| file["name"] == "adapter_model.safetensors");
    let hex = file.unwrap()["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
    let object = stack.folder.path().join("objects/sha256").join(&hex[..2]).join(&hex);
    let path = "/adapters/acme/sst2/versions/1.0.0/files/adapter_model.safetensors";
    assert_eq!(acme.get(path).await.status(), StatusCode::OK);
    let good = std::fs::read(&object).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for bad in [flipped, good[..good.len() - 1].to_vec(), Vec::new()] {
        std::fs::write(&object, bad).unwrap();
        let answer = acme.get(path).await;
        assert!(!answer.headers().contains_key("etag"));
        let answer = problem(answer, StatusCode::INTERNAL_SERVER_ERROR, "object_corrupted").await;
        assert!(answer["detail"].as_str().unwrap().contains("adapter_model.safetensors"), "{answer}");
    }
    std::fs::remove_file(&object).unwrap();
    problem(acme.get(path).await, StatusCode::INTERNAL_SERVER_ERROR, "object_missing").await;
    std::fs::write(&object, good).unwrap();
    assert_eq!(acme.get(path).await.status(), StatusCode::OK);
}
