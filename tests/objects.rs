//! Adapters' files in a bucket: published to it, served from it, and compared with the database on the host.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod stack;

use std::process::{Command, Output};

use serde_json::{Value, json};
use souk_testkit_s3::{ACCESS_KEY_ID, BUCKET, S3Server, SECRET_ACCESS_KEY};
use stack::Stack;

fn check(stack: &Stack, settings: &[(&str, &str)], more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_souk"));
    command.args(["check", "--json", "--data-dir"]).arg(stack.data_dir()).args(more);
    command.envs(settings.iter().copied()).output().unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

// The S3 server answers on another thread than the one that waits for commands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adapters_are_published_to_a_bucket_served_from_it_and_compared_with_the_database() {
    let server = S3Server::start().await;
    let url = format!("s3://{BUCKET}/prod");
    let settings = [
        ("SOUK_OBJECTS__URL", url.as_str()),
        ("SOUK_OBJECTS__ENDPOINT", server.endpoint()),
        ("SOUK_OBJECTS__ACCESS_KEY_ID", ACCESS_KEY_ID),
        ("SOUK_OBJECTS__SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
        ("SOUK_OBJECTS__ATTEMPTS", "1"),
    ];
    let stack = Stack::start_with(&settings);
    stack.push(&stack::repository().join("examples/adapters/sst2"), "admin/sst2@1.0.0");
    assert!(!stack.data_dir().join("objects").exists());
    let question = json!({ "model": "admin/sst2", "prompt": "a gorgeous film", "max_tokens": 4, "temperature": 0 });
    let (status, answer) = stack.post("/v1/completions", &question).await;
    assert_eq!(status, 200, "{answer}\n{}", stack.log());

    let names = server.names("prod/sha256/");
    let fine = check(&stack, &settings, &["--deep"]);
    assert_eq!((fine.status.code(), report(&fine)["num_objects"].as_u64()), (Some(0), Some(names.len() as u64)));
    server.remove(&names[0]);
    let found = check(&stack, &settings, &["--repair"]);
    let missing = report(&found)["missing"].clone();
    assert_eq!((found.status.code(), missing.as_array().unwrap().len()), (Some(3), 1));
    assert!(missing[0]["versions"][0].as_str().unwrap().starts_with("admin/sst2@1.0.0 "), "{missing}");
    server.stop();
    let broken = check(&stack, &settings, &[]);
    let told = String::from_utf8(broken.stderr).unwrap();
    assert_eq!(broken.status.code(), Some(1), "{told}");
    assert!(told.contains("nothing answers there"), "{told}");
}
