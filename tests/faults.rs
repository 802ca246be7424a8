//! What is left after a crash, a cut connection and a request to stop.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod stack;

use std::path::Path;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde_json::{Value, json};
use stack::{BASE, Stack};
use tokio::io::AsyncWriteExt as _;

fn question(max_tokens: u32) -> Value {
    json!({ "model": BASE, "prompt": "Once upon a time", "max_tokens": max_tokens, "temperature": 0, "ignore_eos": true })
}

/// Sends the head of an upload and half of its weights over a raw connection and leaves it open.
async fn half_an_upload(stack: &Stack) -> tokio::net::TcpStream {
    let folder = stack::repository().join("examples/adapters/sst2");
    let config = std::fs::read_to_string(folder.join("adapter_config.json")).unwrap();
    let weights = std::fs::read(folder.join("adapter_model.safetensors")).unwrap();
    let part =
        |name: &str| format!("--cut\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\n\r\n");
    let mut body = "--cut\r\ncontent-disposition: form-data; name=\"version\"\r\n\r\n1.0.0\r\n".to_owned();
    body += &format!("{}{config}\r\n{}", part("adapter_config.json"), part("adapter_model.safetensors"));
    let head = format!(
        "POST /registry/v1/adapters/admin/cut/versions HTTP/1.1\r\nhost: souk\r\nauthorization: Bearer {}\r\n\
         content-type: multipart/form-data; boundary=cut\r\ncontent-length: {}\r\n\r\n",
        stack.admin_key,
        body.len() + weights.len() + "\r\n--cut--\r\n".len(),
    );
    let address = stack.url.strip_prefix("http://").unwrap();
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(body.as_bytes()).await.unwrap();
    connection.write_all(&weights[..weights.len() / 2]).await.unwrap();
    connection.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    connection
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().map_while(Result::ok) {
        if entry.path().is_dir() {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path().display().to_string());
        }
    }
    files.sort();
    files
}

async fn versions(stack: &Stack) -> Value {
    let url = format!("{}/registry/v1/adapters/admin/cut/versions", stack.url);
    stack.http().get(url).send().await.unwrap().json().await.unwrap()
}

async fn create_adapter(stack: &Stack) {
    let (status, answer) = stack
        .post("/registry/v1/adapters", &json!({ "name": "cut", "visibility": "private", "description": "" }))
        .await;
    assert_eq!(status, 201, "{answer}");
}

#[tokio::test]
async fn a_crash_during_an_upload_leaves_no_version_and_no_file() {
    // A start deletes nothing: what the killed process had begun is ended when its lease has lapsed.
    let mut stack = Stack::start_with(&[("SOUK_REGISTRY__LEASE_S", "2"), ("SOUK_REGISTRY__COLLECT_EVERY_S", "1")]);
    create_adapter(&stack).await;
    let before = files_below(&stack.data_dir().join("objects"));
    let connection = half_an_upload(&stack).await;
    assert_ne!(files_below(&stack.data_dir().join("objects")), before, "half of the upload is on disk");
    stack.kill();
    drop(connection);

    stack.restart();
    assert_eq!(versions(&stack).await["data"], json!([]));
    until_files_are(&stack, &before).await;
    // The same version can be published now.
    stack.push(&stack::repository().join("examples/adapters/sst2"), "admin/cut@1.0.0");
    assert_eq!(versions(&stack).await["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_cut_connection_during_an_upload_leaves_no_version_and_no_file() {
    let stack = Stack::start();
    create_adapter(&stack).await;
    let before = files_below(&stack.data_dir().join("objects"));
    drop(half_an_upload(&stack).await);
    until_files_are(&stack, &before).await;
    assert_eq!(versions(&stack).await["data"], json!([]));
}

async fn until_files_are(stack: &Stack, expected: &[String]) {
    let end = Instant::now() + Duration::from_secs(30);
    while files_below(&stack.data_dir().join("objects")) != expected {
        assert!(Instant::now() < end, "{:?}", files_below(&stack.data_dir().join("objects")));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_crash_during_generation_breaks_the_stream_and_nothing_else() {
    let mut stack = Stack::start();
    stack.push_examples();
    let mut body = question(4000);
    body["stream"] = json!(true);
    let response = stack.http().post(format!("{}/v1/completions", stack.url)).json(&body).send().await.unwrap();
    let mut stream = response.bytes_stream();
    stream.next().await.unwrap().unwrap();
    stack.kill();
    let mut rest: Vec<_> = stream.collect().await;
    assert!(rest.pop().is_some_and(|last| last.is_err()), "the client is told that the answer is not whole");
    let rest: Vec<u8> = rest.into_iter().flat_map(|bytes| bytes.expect("only the last is an error")).collect();
    let rest = String::from_utf8_lossy(&rest);
    assert!(!rest.contains("[DONE]") && !rest.contains("\"finish_reason\":\""), "nothing passes for an end: {rest}");

    stack.restart();
    let listed = stack.souk(&["list"]);
    assert!(listed.contains("admin/sst2"), "{listed}");
    let (status, answer) = stack.post("/v1/completions", &question(4)).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["usage"]["completion_tokens"], 4);
}

#[tokio::test]
async fn a_request_to_stop_lets_running_answers_end_and_refuses_new_ones() {
    let mut stack = Stack::start();
    let mut body = question(200);
    body["stream"] = json!(true);
    let response = stack.http().post(format!("{}/v1/completions", stack.url)).json(&body).send().await.unwrap();
    let mut stream = response.bytes_stream();
    let mut text = String::from_utf8(stream.next().await.unwrap().unwrap().to_vec()).unwrap();
    // A kept-alive connection, so that the refusal can be seen after the listener has closed.
    stack.terminate();
    while let Some(bytes) = stream.next().await {
        text += std::str::from_utf8(&bytes.expect("the answer is not cut")).unwrap();
    }
    assert!(text.trim_end().ends_with("data: [DONE]"), "{text}");
    assert!(stack.wait(Duration::from_secs(20)), "{}", stack.log());
    let refused = stack.http().post(format!("{}/v1/completions", stack.url)).json(&question(1)).send().await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn an_upload_that_is_wrong_says_everything_and_leaves_nothing() {
    let stack = Stack::start();
    create_adapter(&stack).await;
    let before = files_below(&stack.data_dir().join("objects"));
    let folder = tempfile::tempdir().unwrap();
    let example = stack::repository().join("examples/adapters/sst2");
    let config = std::fs::read_to_string(example.join("adapter_config.json")).unwrap();
    let config = config
        .replace("HuggingFaceTB/SmolLM2-135M-Instruct", "somebody/another-model")
        .replace("\"r\": 8", "\"r\": 16")
        .replace("\"bias\": \"none\"", "\"bias\": \"all\"");
    std::fs::write(folder.path().join("adapter_config.json"), config).unwrap();
    std::fs::copy(example.join("adapter_model.safetensors"), folder.path().join("adapter_model.safetensors")).unwrap();
    let output = stack.souk_output(&["push", folder.path().to_str().unwrap(), "admin/cut@1.0.0"]);
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    for expected in ["another-model", "bias", "rank"] {
        assert!(text.contains(expected), "{expected} is not named in:\n{text}");
    }
    assert_eq!(files_below(&stack.data_dir().join("objects")), before);
    assert_eq!(versions(&stack).await["data"], json!([]));
}

#[tokio::test]
async fn a_start_orders_what_was_taken_down_and_no_packed_file_of_it_stays() {
    let mut stack = Stack::start();
    stack.push_examples();
    let packed = stack.data_dir().join("packed");
    let files = || -> Vec<_> {
        let entries = std::fs::read_dir(&packed).map(|entries| entries.map(|entry| entry.unwrap().path()));
        entries.map(|paths| paths.filter(|path| path.is_file()).collect()).unwrap_or_default()
    };
    let wait_for = async |count: usize, what: &str| {
        let started = Instant::now();
        while files().len() != count {
            assert!(started.elapsed() < Duration::from_secs(20), "{what}: {:?}", files());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let num_others = files().len();
    let ask = json!({ "model": "admin/sst2@1.0.0", "prompt": "Once", "max_tokens": 2 });
    assert_eq!(stack.post("/v1/completions", &ask).await.0, 200);
    wait_for(num_others + 1, "the adapter is packed to disk").await;
    let kept: Vec<_> = files().into_iter().map(|path| (std::fs::read(&path).unwrap(), path)).collect();
    let path = "/registry/v1/adapters/admin/sst2/versions/1.0.0/take-down";
    assert_eq!(stack.post(path, &json!({ "reason": "a test" })).await.0, 200);
    wait_for(num_others, "the order removes it").await;
    // As after a crash between the take-down's commit and its order: the file is there.
    stack.kill();
    kept.iter().for_each(|(bytes, path)| std::fs::write(path, bytes).unwrap());
    assert_eq!(files().len(), num_others + 1);
    stack.restart();
    wait_for(num_others, "the start orders it again").await;
    let (status, answer) = stack.post("/v1/completions", &ask).await;
    assert_eq!(status, 410, "{answer}");
    stack.push(&stack::repository().join("examples/adapters/sarcasm"), "admin/another@1.0.0");
    let other = json!({ "model": "admin/another", "prompt": "Once", "max_tokens": 2 });
    assert_eq!(stack.post("/v1/completions", &other).await.0, 200, "others are served");
}
