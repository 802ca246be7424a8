//! A backup by the recipe of docs/operate.md, taken while a server runs and publishes, and what it is worth.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod stack;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use souk_protocol::peft::Module;
use souk_testkit::base::SMOLLM2;
use souk_testkit::peft::RandomAdapter;
use stack::{BASE, Stack};

/// The lines of the page, as they stand there, in a folder.
fn run_the_recipe(data_dir: &Path, at: &Path) {
    let page = std::fs::read_to_string(stack::repository().join("docs/operate.md")).unwrap();
    let block = page.split("```sh\n").find(|block| block.contains("VACUUM INTO")).unwrap();
    let script = block.split("```").next().unwrap().replace("DATA_DIR", data_dir.to_str().unwrap());
    let output = Command::new("sh").args(["-eu", "-c", &script]).current_dir(at).output().unwrap();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// An adapter that no other has the weights of.
fn adapter(number: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let modules = [Module::Q];
    let random = RandomAdapter { shape: &SMOLLM2, base: BASE, modules: &modules, rank: 1, is_dora: false, size: 0.01 };
    random.files(number as u64).write(folder.path()).unwrap();
    folder
}

fn check(data_dir: &Path) -> (Output, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_souk"));
    let output = command.args(["check", "--deep", "--json", "--data-dir"]).arg(data_dir).output().unwrap();
    let report = serde_json::from_slice(&output.stdout);
    let report = report.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output, report)
}

async fn versions(stack: &Stack) -> Vec<Value> {
    let url = format!("{}/registry/v1/adapters/admin/many/versions?limit=100", stack.url);
    let page: Value = stack.http().get(url).send().await.unwrap().json().await.unwrap();
    page["data"].as_array().unwrap().clone()
}

/// Tells who publishes to stop.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Publishes one version after another until it is told to stop, and counts them.
fn publish(stack: &Stack, is_over: &AtomicBool, num_published: &AtomicUsize) {
    while !is_over.load(Ordering::SeqCst) {
        let number = num_published.load(Ordering::SeqCst);
        stack.push(adapter(number).path(), &format!("admin/many@1.0.{number}"));
        num_published.store(number + 1, Ordering::SeqCst);
    }
}

/// Publishes a version whose number an upload may still have that the copy cut off.
fn publish_when_free(stack: &Stack, number: usize) {
    let (folder, reference) = (adapter(number), format!("admin/many@1.0.{number}"));
    for _ in 0..240 {
        let output = stack.souk_output(&["push", folder.path().to_str().unwrap(), &reference]);
        let told = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            return;
        }
        assert!(told.contains("is being uploaded"), "{told}");
        thread::sleep(Duration::from_millis(250));
    }
    panic!("after a minute the number is not free");
}

fn wait_for(num_published: &AtomicUsize, number: usize) {
    for _ in 0..2400 {
        if num_published.load(Ordering::SeqCst) >= number {
            return;
        }
        thread::sleep(Duration::from_millis(25));
    }
    panic!("after a minute {number} versions are not published");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_recipe_copies_while_a_server_publishes_is_whole_and_serves_again() {
    // What was under way when the copy was made is ended soon after.
    let mut stack = Stack::start_with(&[("SOUK_REGISTRY__LEASE_S", "2"), ("SOUK_REGISTRY__COLLECT_EVERY_S", "1")]);
    // Its secret is sealed, so that a start without the sealing key would be refused.
    let (status, hook) = stack.post("/registry/v1/webhooks", &json!({ "url": "https://hooks.invalid/" })).await;
    assert_eq!(status, 201, "{hook}");
    let at = tempfile::tempdir().unwrap();
    let (is_over, num_published) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        // However this ends.
        let _over = Over(&is_over);
        scope.spawn(|| publish(&stack, &is_over, &num_published));
        wait_for(&num_published, 2);
        run_the_recipe(&stack.data_dir(), at.path());
        wait_for(&num_published, num_published.load(Ordering::SeqCst) + 2);
    });
    let backup = at.path().join("backup");

    let (_, report) = check(&backup);
    for what in ["missing", "wrong_size", "wrong_digest"] {
        assert_eq!(report[what], json!([]), "{report}");
    }
    stack.kill();
    let moved = |from: PathBuf, to: PathBuf| std::fs::rename(from, to).unwrap();
    moved(stack.data_dir(), at.path().join("lost"));
    copy(&backup, &stack.data_dir());
    stack.restart();
    let restored = versions(&stack).await;
    let all = num_published.load(Ordering::SeqCst);
    assert!((2..all).contains(&restored.len()), "{} of {all} versions", restored.len());
    for version in &restored {
        let number = version["version"].as_str().unwrap();
        let path = format!("/registry/v1/adapters/admin/many/versions/{number}/files/adapter_model.safetensors");
        let answer = stack.http().get(format!("{}{path}", stack.url)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{number}");
    }
    for chain in [&["--tenant", "admin"][..], &["--installation"]] {
        stack.souk(&[&["audit", "verify"], chain].concat());
    }
    let hooks: Value =
        stack.http().get(format!("{}/registry/v1/webhooks", stack.url)).send().await.unwrap().json().await.unwrap();
    assert_eq!(hooks["data"][0]["id"], hook["id"]);
    // What came after the backup can be published again, over objects that are there already.
    for number in restored.len()..all {
        publish_when_free(&stack, number);
    }
    assert_eq!(versions(&stack).await.len(), all);
    let (output, report) = check(&stack.data_dir());
    assert_eq!(output.status.code(), Some(0), "{report}");
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success());
}
