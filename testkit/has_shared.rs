//! The build script of every crate that has tests on the shared fixtures: sets `has_shared` where they lie beside the
//! checkout, so that such a test shows as ignored, and not as passed, where they do not.

use std::path::Path;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(has_shared)");
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
    let checkout = Path::new(&package).ancestors().find(|folder| folder.join("Cargo.lock").exists());
    let fixtures = checkout.and_then(Path::parent).expect("a package lies in a checkout").join("shared/fixtures");
    println!("cargo::rerun-if-changed={}", fixtures.display());
    if fixtures.is_dir() {
        println!("cargo::rustc-cfg=has_shared");
    }
}
