//! Adapters' files in a bucket: published to it, served from it, and compared with the database on the host.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod stack;

use std::process::{Command, Output};

use serde_json::{Value, json};
use souk_protocol::Digest;
use souk_protocol::peft::Module;
use souk_testkit::base::SMOLLM2;
use souk_testkit::peft::RandomAdapter;
use souk_testkit_s3::{ACCESS_KEY_ID, BUCKET, Fault, S3Server, SECRET_ACCESS_KEY};
use stack::{BASE, Stack};

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
        ("SOUK_OBJECTS__PART_MB", "5"),
    ];
    let stack = Stack::start_with(&settings);
    stack.push(&stack::repository().join("examples/adapters/sst2"), "admin/sst2@1.0.0");
    assert!(!stack.data_dir().join("objects").exists());
    let question = json!({ "model": "admin/sst2", "prompt": "a gorgeous film", "max_tokens": 4, "temperature": 0 });
    let (status, answer) = stack.post("/v1/completions", &question).await;
    assert_eq!(status, 200, "{answer}\n{}", stack.log());

    push_straight_to_the_bucket(&stack, &server).await;
    push_many_parts(&stack, &server).await;

    let names = server.names("prod/sha256/");
    let fine = check(&stack, &settings, &["--deep"]);
    assert_eq!((fine.status.code(), report(&fine)["num_objects"].as_u64()), (Some(0), Some(names.len() as u64)));
    server.remove(&names[0]);
    let found = check(&stack, &settings, &["--repair"]);
    let missing = report(&found)["missing"].clone();
    assert_eq!((found.status.code(), missing.as_array().unwrap().len()), (Some(3), 1));
    assert!(missing[0]["versions"][0].as_str().unwrap().starts_with("admin/"), "{missing}");
    server.stop();
    let broken = check(&stack, &settings, &[]);
    let told = String::from_utf8(broken.stderr).unwrap();
    assert_eq!(broken.status.code(), Some(1), "{told}");
    assert!(told.contains("nothing answers there"), "{told}");
}

/// Pushes past the server, after an interruption and in the place of another upload.
async fn push_straight_to_the_bucket(stack: &Stack, server: &S3Server) {
    let folder = stack::repository().join("examples/adapters/sarcasm");
    let weights = std::fs::read(folder.join("adapter_model.safetensors")).unwrap();
    assert_eq!(stack.post("/registry/v1/adapters", &json!({ "name": "sarcasm" })).await.0, 201);
    let begin = async |version: &str, bytes: &[u8]| {
        let announced =
            json!({ "version": version, "digest": Digest::of(bytes).to_string(), "size_bytes": bytes.len() });
        let (status, begun) = stack.post("/registry/v1/adapters/admin/sarcasm/uploads", &announced).await;
        assert_eq!(status, 201, "{begun}");
    };
    let push = |reference: &str, more: &[&str]| {
        let arguments = ["push", folder.to_str().unwrap(), reference, "--direct", "always"];
        let arguments: Vec<_> = arguments.into_iter().chain(more.iter().copied()).map(str::to_owned).collect();
        let (url, key) = (stack.url.clone(), stack.admin_key.clone());
        tokio::task::spawn_blocking(move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_souk"));
            command.args(arguments).env("SOUK_URL", url).env("SOUK_API_KEY", key).output().unwrap()
        })
    };
    // One that was begun and interrupted is gone on with, and one of other bytes is in the way until it is ended.
    begin("1.0.0", &weights).await;
    let parts_before = server.num_requests("PUT", "partNumber=");
    let pushed = push("admin/sarcasm@1.0.0", &[]).await.unwrap();
    let told = String::from_utf8_lossy(&pushed.stderr).into_owned();
    assert!(pushed.status.success(), "{told}\n{}", stack.log());
    assert_eq!(server.num_requests("PUT", "partNumber=") - parts_before, 1);
    begin("1.1.0", b"something else").await;
    let refused = push("admin/sarcasm@1.1.0", &[]).await.unwrap();
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("`--start-over`"), "{told}");
    // Nor is one of the same weights gone on with by who starts over.
    begin("1.2.0", &weights).await;
    for reference in ["admin/sarcasm@1.1.0", "admin/sarcasm@1.2.0"] {
        let pushed = push(reference, &["--start-over"]).await.unwrap();
        assert!(pushed.status.success(), "{reference}: {}", String::from_utf8_lossy(&pushed.stderr));
    }
    assert!(server.names("prod/staging/").is_empty() && server.num_running_uploads() == 0);
    let question = json!({ "model": "admin/sarcasm@1.1.0", "prompt": "Oh great", "max_tokens": 2 });
    assert_eq!(stack.post("/v1/completions", &question).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_go_through_the_server_where_the_bucket_is_out_of_the_clients_reach() {
    let server = S3Server::start().await;
    let (url, endpoint) = (format!("s3://{BUCKET}/prod"), server.endpoint().replace("127.0.0.1", "localhost"));
    let stack = Stack::start_with(&[
        ("SOUK_OBJECTS__URL", url.as_str()),
        ("SOUK_OBJECTS__ENDPOINT", &endpoint),
        ("SOUK_OBJECTS__ACCESS_KEY_ID", ACCESS_KEY_ID),
        ("SOUK_OBJECTS__SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
    ]);
    // So large that they go straight to the bucket by themselves.
    let folder = tempfile::tempdir().unwrap();
    let modules = &Module::OF_LAYER;
    let adapter = RandomAdapter { shape: &SMOLLM2, base: BASE, modules, rank: 112, is_dora: false, size: 0.01 };
    adapter.files(1).write(folder.path()).unwrap();
    let push = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_souk"));
        command.args(["push", folder.path().to_str().unwrap(), "admin/large@1.0.0"]).args(more);
        command.env("SOUK_URL", &stack.url).env("SOUK_API_KEY", &stack.admin_key);
        // For all but the server's address there is a proxy where nobody answers.
        command.env("http_proxy", "http://127.0.0.1:1").env("no_proxy", "127.0.0.1");
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    let uploads = async || -> Value {
        let path = format!("{}/registry/v1/adapters/admin/large/uploads", stack.url);
        stack.http().get(path).send().await.unwrap().json().await.unwrap()
    };
    let refused = push(&["--direct", "always"]).await.unwrap();
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    let store = endpoint.strip_prefix("http://").unwrap();
    assert!(!refused.status.success() && told.contains(&format!("cannot reach the object store at {store}")), "{told}");
    assert!(!told.contains("X-Amz-Signature"), "{told}");
    assert_eq!(uploads().await["data"].as_array().unwrap().len(), 1, "it can be gone on with from elsewhere");

    let pushed = push(&[]).await.unwrap();
    let told = String::from_utf8_lossy(&pushed.stderr).into_owned();
    assert!(pushed.status.success(), "{told}\n{}", stack.log());
    let lines: Vec<_> = told.lines().filter(|line| line.contains("through the server")).collect();
    let expected = format!("The weights go through the server: cannot reach the object store at {store} from here");
    assert_eq!(lines, [expected]);
    assert_eq!(uploads().await["data"], json!([]), "the one that was begun is ended");
    assert!(server.names("prod/staging/").is_empty() && server.num_running_uploads() == 0);
    let version = format!("{}/registry/v1/adapters/admin/large/versions/1.0.0", stack.url);
    assert_eq!(stack.http().get(version).send().await.unwrap().status(), 200);
}

/// Pushes what is refused once all of its parts are there, and counts what that took.
async fn push_many_parts(stack: &Stack, server: &S3Server) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("adapter_config.json"), "{}").unwrap();
    std::fs::write(folder.path().join("adapter_model.safetensors"), vec![7; 26 << 20]).unwrap();
    let push = async |reference: &str| {
        let arguments = ["push", folder.path().to_str().unwrap(), reference, "--direct", "always"].map(str::to_owned);
        let (url, key) = (stack.url.clone(), stack.admin_key.clone());
        let pushed = tokio::task::spawn_blocking(move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_souk"));
            command.args(arguments).env("SOUK_URL", url).env("SOUK_API_KEY", key).output().unwrap()
        });
        let pushed = pushed.await.unwrap();
        assert!(!pushed.status.success());
        String::from_utf8(pushed.stderr).unwrap()
    };
    let asked_for_addresses = async || -> f64 {
        let metrics = stack.http().get(format!("{}/metrics", stack.url)).send().await.unwrap().text().await.unwrap();
        let of_parts = |line: &&str| line.starts_with("souk_registry_requests_total{") && line.contains("/parts\"");
        metrics.lines().filter(of_parts).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    };
    let parts_sent = || server.num_requests("PUT", "partNumber=");
    let before = (asked_for_addresses().await, parts_sent());
    // An address that has expired is asked for anew.
    server.fail("PUT", "partNumber=", 1, Fault::Refuse(403, "AccessDenied"));
    let told = push("admin/parts@1.0.0").await;
    assert!(told.contains("adapter_model.safetensors"), "{told}\n{}", stack.log());
    assert_eq!(parts_sent() - before.1, 6 + 1);
    assert_eq!(asked_for_addresses().await - before.0, f64::from(6_u8.div_ceil(4) + 1));
    // What is refused for good is not sent again and again.
    let parts_before = parts_sent();
    server.fail("PUT", "partNumber=1&", 100, Fault::Refuse(403, "AccessDenied"));
    let told = push("admin/parts@2.0.0").await;
    assert!(told.contains("part 1 was not sent") && told.contains("403"), "{told}");
    assert_eq!(server.num_faults_left(), 98);
    assert!(parts_sent() - parts_before <= 2 + 5);
}

#[tokio::test]
async fn where_objects_are_in_a_folder_a_push_says_so_before_it_reads_the_weights() {
    let stack = Stack::start();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("adapter_config.json"), "{}").unwrap();
    // A file that nobody can read.
    std::os::unix::fs::symlink("/proc/self/mem", folder.path().join("adapter_model.safetensors")).unwrap();
    let push = ["push", folder.path().to_str().unwrap(), "admin/sarcasm@1.0.0", "--direct", "always"];
    let refused = stack.souk_output(&push);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("leave out `--direct`"), "{told}");
}
