//! Redis for tests, from the distribution's package: a server of the test's own, which it may stall, kill and start again.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::installed::redis_server;

/// A server on a free port of the loopback address. It ends with this value, and with the thread that started it.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    folder: PathBuf,
    keeps_data: bool,
    /// Whether it speaks TLS and nothing else, with a certificate that nobody trusts.
    speaks_tls: bool,
    child: Option<Child>,
}

impl Redis {
    /// Whether the distribution's package is there.
    pub fn is_installed() -> bool {
        redis_server().is_some()
    }

    /// A server that has nothing when it starts again.
    pub fn that_forgets() -> Self {
        Self::new(false, false)
    }

    /// A server that has its data when it starts again, also after it was killed.
    pub fn that_keeps_its_data() -> Self {
        Self::new(true, false)
    }

    /// A server that speaks TLS, as `localhost`, with a certificate that it has signed itself.
    pub fn that_nobody_trusts() -> Self {
        Self::new(false, true)
    }

    fn new(keeps_data: bool, speaks_tls: bool) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("souk-redis-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        if speaks_tls {
            make_certificate(&folder);
        }
        let mut server = Self { port: free_port(), folder, keeps_data, speaks_tls, child: None };
        server.start();
        server
    }

    /// Starts it, where it was before.
    pub fn start(&mut self) {
        let server = redis_server().expect("Redis is installed; scripts/setup.sh does it");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(server).args(["--bind", "127.0.0.1", "--save", ""]);
        let port = self.port.to_string();
        if self.speaks_tls {
            command.args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"]);
            command.args(["--tls-cert-file", "server.crt", "--tls-key-file", "server.key"]);
            command.args(["--tls-ca-cert-file", "server.crt"]).current_dir(&self.folder);
        } else {
            command.args(["--port", &port]);
        }
        command.args(["--appendonly", if self.keeps_data { "yes" } else { "no" }, "--appendfsync", "no"]);
        command.arg("--dir").arg(&self.folder).arg("--logfile").arg(self.folder.join("log"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("redis-server starts"));
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() && self.cli(&["PING"]).trim() == "PONG" {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("Redis does not answer; see the log in {}", self.folder.display());
    }

    /// Kills it: connections break, and nothing is written any more.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        child.kill().expect("redis-server is killed");
        child.wait().expect("redis-server ends");
    }

    /// Has it do nothing, while its connections stay.
    pub fn stall(&self) {
        self.signal("-STOP");
    }

    /// Has it go on.
    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    /// Runs a command by the package's own client and answers what that prints.
    pub fn cli(&self, command: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        if self.speaks_tls {
            cli.args(["--tls", "--cacert"]).arg(self.folder.join("server.crt"));
        }
        cli.args(command).stdin(Stdio::null());
        String::from_utf8_lossy(&cli.output().expect("redis-cli").stdout).into_owned()
    }

    /// Where it is.
    pub fn url(&self) -> String {
        if self.speaks_tls {
            return format!("rediss://localhost:{}", self.port);
        }
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn signal(&self, signal: &str) {
        let id = self.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().expect("kill").success());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
        drop(fs::remove_dir_all(&self.folder));
    }
}

fn make_certificate(folder: &Path) {
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "3650",
    ]);
    openssl.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
    openssl.args(["-keyout", "server.key", "-out", "server.crt"]).current_dir(folder);
    openssl.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(openssl.status().expect("openssl").success());
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}
