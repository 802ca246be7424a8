//! `make demo` run twice: what a newcomer published stays, whatever happened to the key.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod stack;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

/// The demo in a folder of its own. Its server ends when this is dropped.
struct Demo {
    home: tempfile::TempDir,
    port: u16,
}

impl Demo {
    fn new() -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Self { home: tempfile::tempdir().unwrap(), port: free.local_addr().unwrap().port() }
    }

    fn script(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(stack::repository().join("scripts/demo.sh"));
        command.args(arguments).env("SOUK", env!("CARGO_BIN_EXE_souk")).env("SOUK_DEMO_PORT", self.port.to_string());
        command.env("SOUK_DEMO_DIR", self.home.path()).output().unwrap()
    }

    fn run(&self) -> String {
        let output = self.script(&[]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let log = std::fs::read_to_string(self.home.path().join("server.log")).unwrap_or_default();
        assert!(output.status.success(), "{stderr}\n{log}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn souk(&self, arguments: &[&str]) -> String {
        let key = std::fs::read_to_string(self.home.path().join("key")).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_souk"))
            .args(arguments)
            .env("SOUK_URL", format!("http://127.0.0.1:{}", self.port))
            .env("SOUK_API_KEY", key.trim())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.script(&["stop"]);
    }
}

#[test]
fn a_second_demo_keeps_what_was_published_and_mends_a_lost_key() {
    let demo = Demo::new();
    let said = demo.run();
    assert!(said.contains("Published admin/sst2@1.0.0") && said.contains("positive"), "{said}");
    assert!(said.contains(r#"{"sentiment":"negative"}"#), "a publisher's hook makes JSON of a plain text: {said}");
    let folder = Path::new(env!("CARGO_BIN_EXE_souk")).parent().unwrap();
    assert!(said.contains(&format!("export PATH={}", folder.display())), "it says where souk is: {said}");
    let log = std::fs::metadata(demo.home.path().join("server.log")).unwrap();
    assert_eq!(log.permissions().mode() & 0o077, 0, "the log of the first start has the admin key");
    let example = stack::repository().join("examples/adapters/sst2");
    demo.souk(&["push", example.to_str().unwrap(), "admin/mine@1.0.0"]);

    let said = demo.run();
    assert!(said.contains("The demo server has stopped.") && said.contains("from an earlier demo"), "{said}");
    assert!(demo.souk(&["list"]).contains("admin/mine"));

    std::fs::remove_file(demo.home.path().join("key")).unwrap();
    demo.run();
    assert!(demo.souk(&["list"]).contains("admin/mine"));
}
