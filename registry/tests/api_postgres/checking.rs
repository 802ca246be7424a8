//! `souk check` where the rows are on PostgreSQL: what it looks for in them, and the row that it holds while it repairs.

use serde_json::Value;
use souk_protocol::manifest::blob_path;
use souk_registry::{CheckOptions, CheckReport, check_objects};

use crate::support::{AdapterFiles, Stack, config_in};

async fn check(stack: &Stack, repair: bool) -> CheckReport {
    check_objects(&config_in(stack.folder.path()), CheckOptions { deep: true, repair }).await.unwrap()
}

#[tokio::test]
async fn a_damaged_object_is_put_aside_beside_a_running_registry_and_published_again() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    let version = acme.publish("acme/sst2", "1.0.0", 1).await;
    assert!(check(&stack, false).await.is_clean());
    let is_weights = |file: &&Value| file["name"] == "adapter_model.safetensors";
    let files = version["files"].as_array().unwrap();
    let digest = files.iter().find(is_weights).unwrap()["digest"].as_str().unwrap().to_owned();
    let object = stack.folder.path().join("objects").join(blob_path(&digest.parse().unwrap()));
    let mut bytes = AdapterFiles::tiny(1).weights_bytes();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&object, bytes).unwrap();
    let orphan = "0".repeat(64);
    std::fs::create_dir_all(stack.folder.path().join("objects/sha256/00")).unwrap();
    std::fs::write(stack.folder.path().join("objects/sha256/00").join(&orphan), "nobody's").unwrap();
    let found = check(&stack, false).await;
    assert_eq!((found.wrong_digest.len(), found.wrong_digest[0].digest.clone()), (1, digest));
    assert_eq!(found.wrong_digest[0].versions, ["acme/sst2@1.0.0 adapter_model.safetensors"]);
    assert_eq!((found.orphans.len(), found.num_quarantined, found.num_noted), (1, 0, 0));
    let repaired = check(&stack, true).await;
    assert_eq!((repaired.num_quarantined, repaired.num_noted), (1, 1));
    assert!(!object.exists());
    assert_eq!(check(&stack, false).await.missing.len(), 1);
    acme.publish("acme/sst2", "1.0.1", 1).await;
    let mended = check(&stack, false).await;
    assert!(mended.missing.is_empty() && mended.wrong_digest.is_empty(), "{mended:?}");
}
