//! Tells the tests what is there, so that a test that needs something else shows as ignored: the shared fixtures beside the
//! repository.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(has_shared)");
    println!("cargo::rerun-if-changed=../../../shared/fixtures");
    if Path::new("../../../shared/fixtures").exists() {
        println!("cargo::rustc-cfg=has_shared");
    }
}
