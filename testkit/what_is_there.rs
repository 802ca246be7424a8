//! The build script of every crate whose tests need what is not always there: the shared fixtures beside the checkout,
//! leave to mount a small file system. A test that lacks its need shows as ignored, and not as passed.

#![expect(clippy::print_stdout, reason = "a build script talks to cargo")]

use std::path::Path;
use std::process::{Command, Stdio};

fn main() {
    println!("cargo::rustc-check-cfg=cfg(has_shared, can_mount)");
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
    let checkout = Path::new(&package).ancestors().find(|folder| folder.join("Cargo.lock").exists());
    let beside = checkout.and_then(Path::parent).expect("a package lies in a checkout");
    let fixtures = beside.join("shared/fixtures");
    println!("cargo::rerun-if-changed={}", fixtures.display());
    if fixtures.is_dir() {
        println!("cargo::rustc-cfg=has_shared");
    }
    if can_mount() {
        println!("cargo::rustc-cfg=can_mount");
    }
}

/// Whether an unprivileged user may mount a file system in a namespace of its own, as the test of a full disk does.
fn can_mount() -> bool {
    let script = r#"mount -t tmpfs -o size=1m none "$OUT_DIR""#;
    let mut command = Command::new("unshare");
    let command = command.args(["--map-root-user", "--mount", "sh", "-c", script]);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
