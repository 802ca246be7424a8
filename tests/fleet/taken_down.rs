//! A version is taken down while two nodes answer with it.

use futures::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::field::{Field, LIMIT};
use crate::fleet::{done, until};
use crate::stack::BASE;
use crate::streams::question;

/// Files in a folder and below, with what is in their names.
fn files_of(folder: &std::path::Path, part: &str) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let counted = entries.map(|entry| match entry.path() {
        path if path.is_dir() => files_of(&path, part),
        _ => usize::from(entry.file_name().to_string_lossy().contains(part)),
    });
    counted.sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_is_taken_down_ends_on_all_nodes_and_nothing_else_does() {
    let mut field = Field::start(2, 0).await;
    for number in 0..2 {
        let node = field.node(number, &[("SOUK_ENGINE__MAX_SEQUENCES", "8")]);
        field.nodes.push(node);
    }
    field.until_ready(2).await;
    field.fleet.push("sst2", "admin/sst2@1.0.0");
    let version = done(field.fleet.at_registry(0, Method::GET, "adapters/admin/sst2/versions/1.0.0")).await;
    let digest = version["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let (of_base, of_version) = (question(BASE, 200), question("admin/sst2@1.0.0", 4000));
    let text = field.undisturbed(&of_base).await;
    // One node has no room for all of them.
    let mut ended = join_all([0, 1, 0, 1, 0, 1, 0, 1].map(|gateway| field.answer(gateway, &of_version))).await;
    join_all(ended.iter_mut().map(|answer| answer.read(2))).await;
    let mut kept = join_all([0, 1].map(|gateway| field.answer(gateway, &of_base))).await;
    join_all(kept.iter_mut().map(|answer| answer.read(2))).await;
    let homes: Vec<_> = (0..2).map(|number| field.fleet.home.path().join(format!("node-{number}"))).collect();
    let is_kept = async || homes.iter().all(|home| files_of(home, &digest[..16]) > 0);
    until("both nodes have it on disk", LIMIT, is_kept).await;
    let path = "adapters/admin/sst2/versions/1.0.0/take-down";
    done(field.fleet.at_registry(1, Method::POST, path).json(&json!({ "reason": "a test" }))).await;
    for answer in ended {
        let error = answer.breaks_off().await;
        assert_eq!(error["code"], "model_taken_down", "{error}");
    }
    let (status, told, _) = field.ask(0, &of_version).await;
    assert_eq!(status, 410, "{told}");
    for (number, home) in homes.iter().enumerate() {
        let is_gone = async || files_of(home, &digest[..16]) == 0;
        until("the node has let go of its files", LIMIT, is_gone).await;
        assert!(field.nodes[number].log().contains("version taken down"), "{}", field.nodes[number].log());
    }
    for answer in kept {
        field.ends_as(answer, &text).await;
    }
}
