//! Tells tests whether the folder of shared fixtures is there, so that those which need it show as ignored without it.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(has_shared)");
    println!("cargo::rerun-if-changed=../../shared/fixtures");
    if std::path::Path::new("../../shared/fixtures").exists() {
        println!("cargo::rustc-cfg=has_shared");
    }
}
