//! `souk audit` against a registry, and a stranger's verifier, which knows nothing but docs/audit.md.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use souk_registry::{Registry, RegistryConfig};

/// A registry in this process, for commands and clients outside of it.
struct Served {
    folder: tempfile::TempDir,
    url: String,
    key: String,
}

impl Served {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = RegistryConfig::new(folder.path());
        config.settings.collect_every = Duration::from_millis(50);
        config.settings.publish_heads_every = Duration::from_millis(100);
        let registry = Registry::open_embedded(config, Vec::new()).await.unwrap();
        let key = registry.bootstrap().await.unwrap().unwrap().expose().to_owned();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (router, _) = souk_registry::router(registry);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { folder, url, key }
    }

    /// Runs a subcommand of the executable with the admin key.
    async fn souk(&self, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_souk"));
        command.args(arguments).env("SOUK_URL", &self.url).env("SOUK_API_KEY", &self.key);
        command.output().await.unwrap()
    }

    /// The same, of which a success is asked.
    async fn good(&self, arguments: &[&str]) -> String {
        let output = self.souk(arguments).await;
        assert!(output.status.success(), "souk {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same with `--json`.
    async fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.good(&[arguments, &["--json"]].concat()).await).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_exported_and_its_erasure_asked_for_and_taken_back_by_command() {
    let served = Served::start().await;
    served.good(&["tenants", "create", "acme"]).await;
    let file = served.file("acme.jsonl");
    served.good(&["tenants", "export", "--tenant", "acme", "--out", text(&file)]).await;
    let export = std::fs::read_to_string(&file).unwrap();
    assert!(export.starts_with(r#"{"souk_export":1,"tenant":"acme""#), "{export}");
    assert!(export.lines().last().unwrap().starts_with(r#"{"end":"#), "{export}");
    let told = served.good(&["tenants", "erase", "acme", "--due", "2999-01-31T00:00:00Z"]).await;
    assert!(told.contains("2999-01-31T00:00:00Z"), "{told}");
    let moved = served.json(&["tenants", "erase", "acme", "--due", "2999-02-28T00:00:00Z"]).await;
    assert_eq!(moved["due_at"], "2999-02-28T00:00:00Z");
    let cancelled = served.json(&["tenants", "erase", "acme", "--cancel"]).await;
    assert_eq!(cancelled, serde_json::json!({ "cancelled": "acme" }));
    let listed = served.good(&["audit", "list", "--tenant", "acme"]).await;
    assert!(listed.contains("tenant.erasure_requested") && listed.contains("tenant.erasure_cancelled"), "{listed}");
    let refused = served.souk(&["tenants", "erase", "admin"]).await;
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && told.contains("cannot be erased"), "{told}");
}

/// What the verifier in Python says.
fn python(arguments: &[&Path]) -> Output {
    let python = std::env::var_os("SOUK_TEST_PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/client/verify_audit.py");
    Command::new(python).arg(script).args(arguments).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_listed_exported_and_verified_here_and_by_a_stranger() {
    let served = Served::start().await;
    for name in ["acme", "rival"] {
        served.good(&["tenants", "create", name]).await;
    }
    served.good(&["keys", "create", "ä \"quoted\"\\", "--tenant", "acme"]).await;
    served.good(&["keys", "create", "second", "--tenant", "acme"]).await;
    let listed = served.good(&["audit", "list", "--tenant", "acme"]).await;
    assert!(listed.contains("key.created") && listed.contains("tenant.created"), "{listed}");
    let json = served.good(&["audit", "list", "--tenant", "acme", "--limit", "2", "--json"]).await;
    assert_eq!(json.lines().count(), 2);

    let (export, heads) = (served.file("export.jsonl"), served.file("heads.jsonl"));
    served.good(&["audit", "export", "--tenant", "acme", "--out", text(&export)]).await;
    let mut kept = String::new();
    for _ in 0..400 {
        kept = served.good(&["audit", "heads", "--tenant", "acme"]).await;
        if kept.lines().any(|head| head.contains(r#""number":3"#)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    std::fs::write(&heads, &kept).unwrap();
    let told = served.good(&["audit", "verify", text(&export), "--heads", text(&heads)]).await;
    assert!(told.contains("entries 1 to 3 fit"), "{told}");
    let told = served.good(&["audit", "verify", "--tenant", "acme"]).await;
    assert!(told.contains("entries 1 to 3 fit"), "{told}");
    served.good(&["audit", "verify", "--installation"]).await;
    let told = served.json(&["audit", "verify", "--tenant", "acme"]).await;
    assert_eq!((&told["first"], &told["last"]), (&Value::from(1), &Value::from(3)));
    assert!(told["num_heads"].as_u64() >= Some(1) && told["chain"].as_str().unwrap().starts_with("ten_"), "{told}");
    let output = python(&[&export, &heads]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    // A change of one character in each line, and each line left out.
    let good = std::fs::read_to_string(&export).unwrap();
    let lines: Vec<_> = good.split_inclusive('\n').collect();
    let bad = served.file("bad.jsonl");
    for at in 0..lines.len() {
        let changed =
            lines[at].replacen("ten_", "teh_", 1).replacen("key", "kez", 1).replacen(r#""end":3"#, r#""end":2"#, 1);
        assert_ne!(changed, lines[at]);
        let changed = [&lines[..at], &[&changed], &lines[at + 1..]].concat().concat();
        let left_out = [&lines[..at], &lines[at + 1..]].concat().concat();
        for text_of_bad in [changed, left_out] {
            std::fs::write(&bad, &text_of_bad).unwrap();
            let output = served.souk(&["audit", "verify", text(&bad), "--heads", text(&heads)]).await;
            assert_eq!(output.status.code(), Some(3), "line {at}: {}", String::from_utf8_lossy(&output.stdout));
            assert!(!python(&[&bad, &heads]).status.success(), "line {at}: {text_of_bad}");
        }
    }
    // Cut off, with an end that fits: the heads tell.
    let output = served.souk(&["audit", "verify", text(&heads)]).await;
    assert_eq!(output.status.code(), Some(3), "heads are no export");
    let output = served.souk(&["audit", "verify", text(&heads), "--json"]).await;
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(told["fault"].as_str().unwrap().contains("line 1"), "{told}");
}
