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
    is_of_cluster: bool,
    /// Of its process.
    variables: Vec<(String, String)>,
    child: Option<Child>,
}

/// Three masters that share the slots between them.
#[derive(Debug)]
pub struct Cluster {
    servers: Vec<Redis>,
}

impl Cluster {
    /// A cluster whose servers forget when they start again.
    pub fn of_three() -> Self {
        let servers: Vec<_> = (0..3).map(|_| Redis::new(Kind { is_of_cluster: true, ..Kind::default() })).collect();
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]);
        create.args(servers.iter().map(|server| format!("127.0.0.1:{}", server.port)));
        create.args(["--cluster-replicas", "0", "--cluster-yes"]).stdin(Stdio::null());
        let said = create.output().expect("redis-cli");
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
        for server in &servers {
            wait_for("the cluster is whole", || server.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok"));
        }
        Self { servers }
    }

    /// Its servers.
    pub fn servers(&self) -> &[Redis] {
        &self.servers
    }
}

/// A sentinel that watches one master by the name of `souk`.
#[derive(Debug)]
pub struct Sentinel {
    port: u16,
    folder: PathBuf,
    /// The password of its default user; empty: it asks for none.
    password: &'static str,
    /// Whether it speaks TLS and nothing else, with a certificate that nobody trusts.
    speaks_tls: bool,
    child: Child,
}

impl Sentinel {
    /// One that knows the master when this returns.
    pub fn of(master: &Redis) -> Self {
        Self::start(master, "", false)
    }

    /// One that asks for this password and speaks TLS, as `localhost`, with a certificate that it has signed itself.
    pub fn with_password_and_tls(master: &Redis, password: &'static str) -> Self {
        Self::start(master, password, true)
    }

    fn start(master: &Redis, password: &'static str, speaks_tls: bool) -> Self {
        let folder = new_folder();
        let (port, config) = (free_port(), folder.join("sentinel.conf"));
        let mut lines = vec!["bind 127.0.0.1".to_owned()];
        if speaks_tls {
            make_certificate(&folder);
            lines.extend(["port 0".to_owned(), format!("tls-port {port}"), "tls-auth-clients no".to_owned()]);
            lines.extend(["tls-cert-file server.crt", "tls-key-file server.key"].map(str::to_owned));
            lines.push("tls-ca-cert-file server.crt".to_owned());
        } else {
            lines.push(format!("port {port}"));
        }
        if !password.is_empty() {
            lines.push(format!("requirepass {password}"));
        }
        lines.push(format!("sentinel monitor souk 127.0.0.1 {} 1\n", master.port));
        fs::write(&config, lines.join("\n")).expect("a file");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(redis_server().expect("Redis is installed"));
        command.arg(&config).arg("--sentinel").arg("--dir").arg(&folder).current_dir(&folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("redis-server starts");
        let sentinel = Self { port, folder, password, speaks_tls, child };
        wait_for("the sentinel knows the master", || {
            let said = sentinel.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "souk"]);
            said.contains(&master.port.to_string())
        });
        sentinel
    }

    /// Has it name another master from now on.
    pub fn names(&self, master: &Redis) {
        self.cli(&["SENTINEL", "REMOVE", "souk"]);
        self.cli(&["SENTINEL", "MONITOR", "souk", "127.0.0.1", &master.port.to_string(), "1"]);
    }

    /// Runs a command by the package's own client and answers what that prints.
    pub fn cli(&self, command: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        if self.speaks_tls {
            cli.args(["--tls", "--cacert"]).arg(self.certificate());
        }
        if !self.password.is_empty() {
            cli.env("REDISCLI_AUTH", self.password);
        }
        cli.args(command).stdin(Stdio::null());
        String::from_utf8_lossy(&cli.output().expect("redis-cli").stdout).into_owned()
    }

    /// Where it is, as `host:port`.
    pub fn address(&self) -> String {
        let host = if self.speaks_tls { "localhost" } else { "127.0.0.1" };
        format!("{host}:{}", self.port)
    }

    /// The file of the certificate that one which speaks TLS has signed itself.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("server.crt")
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.child.kill().expect("the sentinel is killed");
        self.child.wait().expect("the sentinel ends");
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// What a server is like.
#[derive(Clone, Copy, Default)]
struct Kind {
    keeps_data: bool,
    speaks_tls: bool,
    is_of_cluster: bool,
}

impl Redis {
    /// Whether the distribution's package is there.
    pub fn is_installed() -> bool {
        redis_server().is_some()
    }

    /// A server that has nothing when it starts again.
    pub fn that_forgets() -> Self {
        Self::new(Kind::default())
    }

    /// A server that has its data when it starts again, also after it was killed.
    pub fn that_keeps_its_data() -> Self {
        Self::new(Kind { keeps_data: true, ..Kind::default() })
    }

    /// A server that speaks TLS, as `localhost`, with a certificate that it has signed itself.
    pub fn that_nobody_trusts() -> Self {
        Self::new(Kind { speaks_tls: true, ..Kind::default() })
    }

    /// A server that forgets, whose process has these variables.
    pub fn with_variables(variables: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self::new_with(Kind::default(), variables.iter().map(owned).collect())
    }

    fn new(kind: Kind) -> Self {
        Self::new_with(kind, Vec::new())
    }

    fn new_with(kind: Kind, variables: Vec<(String, String)>) -> Self {
        let Kind { keeps_data, speaks_tls, is_of_cluster } = kind;
        let folder = new_folder();
        if speaks_tls {
            make_certificate(&folder);
        }
        let port = if is_of_cluster { free_port_of_cluster() } else { free_port() };
        let mut server = Self { port, folder, keeps_data, speaks_tls, is_of_cluster, variables, child: None };
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
        if self.is_of_cluster {
            command.args(["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"]);
        }
        command.args(["--appendonly", if self.keeps_data { "yes" } else { "no" }, "--appendfsync", "no"]);
        command.arg("--dir").arg(&self.folder).arg("--logfile").arg(self.folder.join("log"));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("redis-server starts"));
        wait_for("Redis answers", || {
            TcpStream::connect(("127.0.0.1", self.port)).is_ok() && self.cli(&["PING"]).trim() == "PONG"
        });
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

    /// The file of the certificate that a server which speaks TLS has signed itself.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("server.crt")
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
    // One that may sign others is refused as a server's own.
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    openssl.args(["-keyout", "server.key", "-out", "server.crt"]).current_dir(folder);
    openssl.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(openssl.status().expect("openssl").success());
}

fn new_folder() -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("souk-redis-{}-{number}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited in vain until {what}");
}

/// Servers of a cluster talk to each other on a port that is higher by 10,000.
fn free_port_of_cluster() -> u16 {
    let ports = std::iter::repeat_with(free_port).take(200).filter(|port| *port < 55_535);
    let mut ports = ports.filter(|port| TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok());
    ports.next().expect("a free port with another above it")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}
