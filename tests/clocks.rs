//! The wall clock of a running server is set to another time.

mod stack;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stack::{BASE, Stack, repository};

/// A server whose wall clock is as far from the true one as a file says.
struct SetClock {
    stack: Stack,
    offset: PathBuf,
    _folder: tempfile::TempDir,
}

impl SetClock {
    fn start() -> Self {
        // The build script found it, or this is ignored.
        let library = option_env!("LIBFAKETIME").unwrap_or_default();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let offset = folder.path().join("offset");
        std::fs::write(&offset, "+0").expect("the folder is ours");
        let stack = Stack::start_with(&[
            ("LD_PRELOAD", library),
            ("FAKETIME_TIMESTAMP_FILE", offset.to_str().expect("the path is text")),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            // The kernel waits by the true clock; what waits on a condition is left alone.
            ("FAKETIME_FAKE_TIMED_WAITS", "0"),
            ("SOUK_GATEWAY__REQUEST_TIMEOUT_S", "120"),
        ]);
        Self { stack, offset, _folder: folder }
    }

    /// Sets the clock to so many hours from the true time.
    fn set(&self, hours: i64) {
        std::fs::write(&self.offset, format!("{:+}", hours * 3600)).expect("the folder is ours");
    }

    async fn ask(&self, model: &str, max_tokens: u32) -> (u16, Value) {
        let body = json!({ "model": model, "prompt": "One two three", "max_tokens": max_tokens, "temperature": 0,
            "ignore_eos": true });
        self.stack.post("/v1/completions", &body).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(has_faketime), ignore = "needs libfaketime: apt-get install faketime, touch Cargo.toml")]
async fn steps_of_the_wall_clock_end_no_answer_and_no_lease() {
    let server = SetClock::start();
    let (status, first) = server.ask(BASE, 4).await;
    assert_eq!(status, 200, "{first}");
    let created = first["created"].as_i64().expect("a moment");
    for hours in [2, -3, 48, 0] {
        // An answer that runs while the clock is set, and one that comes after it.
        let (running, ()) = tokio::join!(server.ask(BASE, 48), async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            server.set(hours);
        });
        assert_eq!(running.0, 200, "{hours} h: {}", running.1);
        let asked = Instant::now();
        let (status, after) = server.ask(BASE, 4).await;
        assert_eq!(status, 200, "{hours} h: {after}\n{}", server.stack.log());
        assert_eq!(after["choices"], first["choices"]);
        let step = after["created"].as_i64().expect("a moment") - created;
        assert!((step - hours * 3600).abs() < 300, "the server's clock was not set: {step} s");
        // Uploads and their leases go on, and so do the nodes' leases and heartbeats.
        let reference = format!("admin/sst2-{}@1.0.0", hours.abs());
        server.stack.push(&repository().join("examples/adapters/sst2"), &reference);
        let (status, adapted) = server.ask(&reference, 4).await;
        assert_eq!(status, 200, "{hours} h: {adapted}");
        println!("clock set to {hours:+} h: two answers and a publication in {:?}", asked.elapsed());
    }
}
