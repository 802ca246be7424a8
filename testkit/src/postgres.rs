//! PostgreSQL for tests, from the distribution's package: one server for all test processes that run at the time, and a
//! database for each test. It keeps nothing on the disk for good and sorts by the rules of a language, as servers of
//! operators may, so that a test finds who relies on the order of bytes.
//!
//! The first test process that asks starts the server below the folder for temporary files; a shell beside it ends it
//! some seconds after the last process that used it is gone, however that ended. A test that stops its server has one
//! of its own ([`Postgres::private`]).

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::installed::postgres_programs;

/// The user of every database.
pub const USER: &str = "souk";
/// Its password.
pub const PASSWORD: &str = "of-the-tests";

/// Ends the server, `"$@"`, twenty seconds after nobody uses it any more. `$0` is the folder.
const KEEPER: &str = r#"
"$@" >"$0/run/log" 2>&1 &
server=$!
exec 8>"$0/start.lock" 9>"$0/users.lock"
idle=0
while kill -0 $server 2>/dev/null; do
    sleep 1
    flock -x 8
    if flock -n -x 9; then flock -u 9; idle=$((idle + 1)); else idle=0; fi
    if [ $idle -ge 20 ]; then kill -INT $server; wait $server; rm -rf "$0/run"; exit; fi
    flock -u 8
done
"#;

/// A server on a free port of the loopback address. It speaks TLS to who asks for it, as `localhost`.
#[derive(Debug)]
pub struct Postgres {
    port: u16,
    /// Of its data, certificate and log.
    folder: PathBuf,
    /// The process, if this value is what ends it.
    child: Option<Child>,
    is_private: bool,
}

/// A database of one test's own.
#[derive(Debug)]
pub struct TestDatabase {
    port: u16,
    name: String,
}

impl Postgres {
    /// Whether the distribution's package is there, as a build script asks it for tests.
    pub fn is_installed() -> bool {
        postgres_programs().is_some()
    }

    /// The server of all test processes.
    pub fn shared() -> &'static Self {
        static SERVER: OnceLock<Postgres> = OnceLock::new();
        SERVER.get_or_init(join_shared)
    }

    /// A server of this test's own, which it may stop and start.
    pub fn private() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("souk-postgres-{}-{number}", std::process::id()));
        make(&folder);
        let mut server = Self { port: free_port(), folder, child: None, is_private: true };
        server.start();
        server
    }

    /// Starts it, where it was before.
    pub fn start(&mut self) {
        let log = File::create(self.folder.join("log")).expect("a log");
        let mut command = serve_command(&self.folder, self.port);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a handle")).stderr(log);
        self.child = Some(command.spawn().expect("postgres starts"));
        wait_for(self.port, &self.folder);
    }

    /// Ends it: connections break.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(sent.expect("kill").success());
        child.wait().expect("postgres ends");
    }

    /// Ends it without warning, as a crash would, with all processes that it has.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let id = child.id();
        let of_it = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        child.kill().expect("postgres is killed");
        child.wait().expect("postgres ends");
        // They end by themselves a little later; another server does not start before.
        for process in of_it.split_whitespace() {
            drop(Command::new("kill").args(["-KILL", process]).stderr(Stdio::null()).status());
            while is_running(process) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of the authority that signed the server's.
    pub fn root_cert(&self) -> PathBuf {
        self.folder.join("root.crt")
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// A new database.
    pub fn database(&self) -> TestDatabase {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let database = TestDatabase { port: self.port, name: format!("test_{}_{number}", std::process::id()) };
        remove_left_over(self.port);
        psql(self.port, "postgres", &format!("CREATE DATABASE {}", database.name));
        database
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.is_private {
            self.stop();
            drop(fs::remove_dir_all(&self.folder));
        }
    }
}

impl TestDatabase {
    /// Where it is, with user and password.
    pub fn url(&self) -> String {
        format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/{}", self.port, self.name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs SQL by the package's own client and answers what that prints.
    pub fn psql(&self, sql: &str) -> String {
        psql(self.port, &self.name, sql)
    }
}

impl TestDatabase {
    /// Writes a backup to `file`, as docs/operate.md says.
    pub fn dump(&self, file: &Path) {
        run(Command::new(programs().join("pg_dump")).arg("--format=custom").arg("--file").arg(file).arg(self.url()));
    }

    /// Reads a backup into this database, which is empty.
    pub fn restore(&self, file: &Path) {
        let mut restore = Command::new(programs().join("pg_restore"));
        run(restore.arg("--no-owner").arg(format!("--dbname={}", self.url())).arg(file));
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // A server that is stopped takes its databases along.
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        _ = psql_command(self.port, "postgres", &drop).output();
    }
}

/// The folder of the programs of the newest version that is installed.
fn programs() -> PathBuf {
    postgres_programs().expect("PostgreSQL is installed; scripts/setup.sh does it")
}

/// Uses the server that runs, or starts it.
fn join_shared() -> Postgres {
    let root = std::env::temp_dir().join(format!("souk-postgres-{}", uid()));
    fs::create_dir_all(&root).expect("a folder");
    let starting = File::create(root.join("start.lock")).expect("a lock");
    starting.lock().expect("the lock");
    let users = File::create(root.join("users.lock")).expect("a lock");
    users.lock_shared().expect("the lock");
    // Held until this process ends.
    std::mem::forget(users);
    let (folder, port_file) = (root.join("run"), root.join("run/port"));
    let running = fs::read_to_string(&port_file).ok().and_then(|port| port.trim().parse().ok());
    let port = running.filter(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok()).unwrap_or_else(|| {
        drop(fs::remove_dir_all(&folder));
        make(&folder);
        let port = free_port();
        let server = serve_command(&folder, port);
        let mut keeper = Command::new("setsid");
        keeper.args(["--fork", "sh", "-c", KEEPER]).arg(&root).arg(server.get_program()).args(server.get_args());
        keeper.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(keeper.status().expect("setsid").success());
        wait_for(port, &folder);
        fs::write(&port_file, port.to_string()).expect("the port's file");
        port
    });
    Postgres { port, folder, child: None, is_private: false }
}

/// Makes the folder of a server: its data and its certificate.
fn make(folder: &Path) {
    fs::create_dir_all(folder).expect("a folder");
    let password = folder.join("password");
    fs::write(&password, PASSWORD).expect("a file");
    let script = r#"
        set -e
        cd "$0"
        key="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
        openssl req -x509 $key -keyout root.key -out root.crt -days 3650 -subj "/CN=root of the tests"
        openssl req -new $key -keyout server.key -out server.csr -subj /CN=localhost
        printf 'subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n' > extensions
        openssl x509 -req -in server.csr -CA root.crt -CAkey root.key -CAcreateserial -days 3650 -extfile extensions \
            -out server.crt
        chmod 600 server.key
    "#;
    run(Command::new("sh").args(["-c", script]).arg(folder));
    if uid() == 0 {
        run(Command::new("chown").args(["-R", "nobody:nogroup"]).arg(folder));
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("rights");
    let mut initdb = unprivileged(&programs().join("initdb"));
    initdb.arg("-D").arg(folder.join("data")).args(["-U", USER, "--auth=scram-sha-256", "--no-sync"]);
    initdb.arg(format!("--pwfile={}", password.display()));
    // The order of a language, by which `a-b` comes after `ab`.
    initdb.args(["--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en"]);
    run(&mut initdb);
}

fn serve_command(folder: &Path, port: u16) -> Command {
    let mut command = unprivileged(&programs().join("postgres"));
    command.arg("-D").arg(folder.join("data")).args(["-p", &port.to_string()]);
    let folder = folder.display();
    for setting in [
        "listen_addresses=127.0.0.1".to_owned(),
        format!("unix_socket_directories={folder}"),
        "fsync=off".to_owned(),
        "full_page_writes=off".to_owned(),
        "max_connections=400".to_owned(),
        "shared_buffers=32MB".to_owned(),
        "ssl=on".to_owned(),
        format!("ssl_cert_file={folder}/server.crt"),
        format!("ssl_key_file={folder}/server.key"),
        // With it every statement is in the log, from which migrations/queries is made.
        format!("log_min_duration_statement={}", std::env::var_os("SOUK_TEST_LOG_SQL").map_or(-1, |_| 0)),
    ] {
        command.args(["-c", &setting]);
    }
    command
}

/// The server refuses to be root.
fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if uid() == 0 {
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
    }
    command.arg(program);
    command
}

/// Waits until the server answers.
fn wait_for(port: u16, folder: &Path) {
    for _ in 0..600 {
        if psql_command(port, "postgres", "SELECT 1").output().is_ok_and(|output| output.status.success()) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("PostgreSQL does not answer; see the log in {}", folder.display());
}

/// Removes databases of test processes that are gone.
fn remove_left_over(port: u16) {
    let names = psql(port, "postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'test\\_%'");
    for name in names.lines() {
        let process = name.split('_').nth(1).unwrap_or_default();
        if !Path::new("/proc").join(process).exists() {
            // Another process may be at it too.
            _ = psql_command(port, "postgres", &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).output();
        }
    }
}

fn psql(port: u16, database: &str, sql: &str) -> String {
    let output = run(&mut psql_command(port, database, sql));
    output.trim_end().to_owned()
}

fn psql_command(port: u16, database: &str, sql: &str) -> Command {
    let mut command = Command::new(programs().join("psql"));
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", USER, "-d", database]);
    command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql]).env("PGPASSWORD", PASSWORD);
    command
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("a program of the package");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether a process runs: one that has ended and that nobody has asked for does not.
fn is_running(process: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    status.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

fn uid() -> u32 {
    fs::metadata("/proc/self").expect("/proc").uid()
}
