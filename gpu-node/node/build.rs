//! Tells the tests what is there, so that a test that needs something else shows as ignored: the shared fixtures beside the
//! repository, and leave to mount a small file system.

use std::path::Path;
use std::process::{Command, Stdio};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(has_shared)");
    println!("cargo::rerun-if-changed=../../../shared/fixtures");
    if Path::new("../../../shared/fixtures").exists() {
        println!("cargo::rustc-cfg=has_shared");
    }
    println!("cargo::rustc-check-cfg=cfg(can_mount)");
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
