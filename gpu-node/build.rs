//! Tells the tests whether the shared fixtures are beside the repository: a test that needs them shows as ignored where they
//! are not.

use std::path::Path;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(has_shared)");
    println!("cargo::rerun-if-changed=../../shared/fixtures");
    if Path::new("../../shared/fixtures").exists() {
        println!("cargo::rustc-cfg=has_shared");
    }
}
