//! A provider of identities for tests: `oidc-provider-mock` of tests/requirements.txt, on a free port of this machine. It lets
//! in whoever says who they are.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// A provider that runs until it is dropped.
#[derive(Debug)]
pub struct MockProvider {
    process: Child,
    /// Its issuer.
    pub url: String,
}

impl MockProvider {
    /// Starts one that knows these people: objects with `sub` and further claims.
    ///
    /// # Panics
    /// If it is not installed (`make setup`), or does not start.
    #[must_use]
    pub fn start(people: &[Value]) -> Self {
        let python = std::env::var_os("SOUK_TEST_PYTHON").map_or_else(default_python, PathBuf::from);
        let program = python.with_file_name("oidc-provider-mock");
        assert!(program.is_file(), "{} is missing; run: make setup", program.display());
        for _ in 0..5 {
            // Free now; should somebody else take it, another is tried.
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let port = listener.local_addr().expect("it has an address").port();
            drop(listener);
            let mut command = Command::new(&program);
            command.args(["--port", &port.to_string()]);
            for person in people {
                command.arg("--user-claims").arg(person.to_string());
            }
            let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut process = quiet.spawn().expect("the program starts");
            for _ in 0..600 {
                if process.try_wait().expect("it is our child").is_some() {
                    break;
                }
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Self { process, url: format!("http://127.0.0.1:{port}") };
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            process.kill().ok();
            process.wait().ok();
        }
        panic!("{} does not start", program.display());
    }
}

impl Drop for MockProvider {
    fn drop(&mut self) {
        // It may have ended already.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn default_python() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"))).expect("a home folder");
    cache.join("souk/venv/bin/python")
}
