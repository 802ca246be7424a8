//! The build script of every crate whose tests need what is not always there: the shared fixtures beside the checkout,
//! leave to mount a small file system, a clock that can be set, PostgreSQL, Redis, hooks that were built here. A test that lacks its need shows as ignored, and not as
//! passed.

#![expect(clippy::print_stdout, reason = "a build script talks to cargo")]

#[path = "src/installed.rs"]
mod installed;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where distributions put libfaketime (Debian's package: `faketime`).
const LIBFAKETIME: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

fn main() {
    println!(
        "cargo::rustc-check-cfg=cfg(has_shared, can_mount, has_faketime, has_postgres, has_redis, has_guests, has_python_guest, has_js_tools)"
    );
    // A path that is not there would have this run, and the crate compiled, each time that cargo is called. So what
    // comes later is seen when this file is touched.
    println!("cargo::rerun-if-changed=Cargo.toml");
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
    let checkout = Path::new(&package).ancestors().find(|folder| folder.join("Cargo.lock").exists());
    let beside = checkout.and_then(Path::parent).expect("a package lies in a checkout");
    let fixtures = beside.join("shared/fixtures");
    if fixtures.is_dir() {
        println!("cargo::rerun-if-changed={}", fixtures.display());
        println!("cargo::rustc-cfg=has_shared");
    }
    if can_mount() {
        println!("cargo::rustc-cfg=can_mount");
    }
    if installed::postgres_programs().is_some() {
        println!("cargo::rustc-cfg=has_postgres");
    }
    if installed::redis_server().is_some() {
        println!("cargo::rustc-cfg=has_redis");
    }
    if let Some(tools) = hook_tools() {
        let needs = [
            ("has_guests", "built"),
            ("has_python_guest", "built/redact-python.wasm"),
            ("has_js_tools", "npm/node_modules/.bin/componentize-qjs"),
        ];
        for (name, _) in needs.into_iter().filter(|(_, path)| tools.join(path).exists()) {
            println!("cargo::rustc-cfg={name}");
        }
    }
    if let Some(library) = LIBFAKETIME.into_iter().find(|place| Path::new(place).is_file()) {
        println!("cargo::rustc-cfg=has_faketime");
        println!("cargo::rustc-env=LIBFAKETIME={library}");
    }
}

/// The folder in which `make guests` has its tools and what it built.
fn hook_tools() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache")))?;
    Some(cache.join("souk/guests"))
}

/// Whether an unprivileged user may mount a file system in a namespace of its own, as the test of a full disk does.
fn can_mount() -> bool {
    let script = r#"mount -t tmpfs -o size=1m none "$OUT_DIR""#;
    let mut command = Command::new("unshare");
    let command = command.args(["--map-root-user", "--mount", "sh", "-c", script]);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
