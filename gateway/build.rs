//! Tells the tests whether the shared fixtures are beside the checkout, so that a test that needs them shows as ignored
//! rather than passed where they are not.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(has_shared)");
    println!("cargo::rerun-if-changed=../../shared/fixtures");
    if std::path::Path::new("../../shared/fixtures").is_dir() {
        println!("cargo::rustc-cfg=has_shared");
    }
}
