//! What counts as a use of another file, on crates of a few lines.

#![expect(clippy::unwrap_used, reason = "a test fails where its files cannot be written")]

use std::path::Path;

use souk_layout::{Circle, circles};

/// The circles of a crate of these files, each as the lines of its edges.
fn circles_of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let found = circles(&folder.path().join(files[0].0)).unwrap();
    found.iter().map(|circle| circle.edges.iter().map(ToString::to_string).collect()).collect()
}

/// `a.rs` uses something of `b.rs`, and this is the text of `b.rs` and what it uses of `a.rs`.
fn is_circle(b: &str) -> bool {
    let a = "use crate::b::B; pub struct A(B); pub fn f() {} pub mod inner { pub const C: u8 = 0; }";
    !circles_of(&[("lib.rs", "mod a; mod b;"), ("a.rs", a), ("b.rs", b)]).is_empty()
}

#[test]
fn a_circle_is_told_with_its_files_and_names() {
    let files = [
        ("lib.rs", "mod one; mod two; mod three; mod apart;"),
        ("one.rs", "use crate::two::{Two, two}; pub struct One;"),
        ("two/mod.rs", "use crate::three::Three as Other; pub struct Two; pub fn two() {}"),
        ("three.rs", "pub struct Three(crate::one::One);"),
        ("apart.rs", "use crate::one::One;"),
    ];
    let edges = ["one.rs -> two/mod.rs (Two, two)", "three.rs -> one.rs (One)", "two/mod.rs -> three.rs (Three)"];
    assert_eq!(circles_of(&files), [edges]);
}

#[test]
fn two_circles_are_two() {
    let files = [
        ("lib.rs", "mod a; mod b; mod c; mod d;"),
        ("a.rs", "use crate::{b::B, c::C}; pub struct A;"),
        ("b.rs", "use crate::a::A; pub struct B;"),
        ("c.rs", "use crate::d::D; pub struct C;"),
        ("d.rs", "use crate::c::C; pub struct D;"),
    ];
    assert_eq!(circles_of(&files).len(), 2);
}

#[test]
fn every_way_to_name_another_file_counts() {
    for b in [
        "use crate::a::A; pub struct B;",
        "use super::a::{self, inner::C}; pub struct B;",
        "use super::*; pub struct B(a::A);",
        "use crate::a::*; pub struct B(A);",
        "use crate::a as other; pub struct B(other::A);",
        "pub struct B { a: Vec<Option<crate::a::A>> }",
        "pub struct B; impl B { fn g() { crate::a::f() } }",
        "pub struct B; fn g() { use crate::a::f; f(); }",
        "pub struct B; fn g() { println!(\"{}\", crate::a::inner::C) }",
        "pub struct B; macro_rules! g { () => { $crate::a::f() } }",
        "#[derive(Serialize)] pub struct B { #[serde(default = \"crate::a::f\")] b: u8 }",
        "pub struct B; mod inner { use super::super::a::A; }",
        "pub use crate::a::A; pub struct B(A);",
        "#[cfg(any(test, unix))] use crate::a::A; pub struct B;",
        "#[cfg(not(test))] use crate::a::A; pub struct B;",
    ] {
        assert!(is_circle(b), "{b}");
    }
}

#[test]
fn what_is_no_use_does_not_count() {
    for b in [
        "pub struct B;",
        "pub use crate::a::A; pub struct B;",
        "pub(crate) use crate::a::{A, f}; pub struct B;",
        "pub(in crate::a) struct B;",
        "#[cfg(test)] use crate::a::A; pub struct B;",
        "pub struct B; #[cfg(all(unix, test))] mod tests { use crate::a::A; }",
        "pub struct B; impl B { #[cfg(test)] fn g() { crate::a::f() } }",
        "use std::a::A; use ::other::a::A; pub struct B;",
        "/// [`crate::a::A`]\npub struct B;",
        "pub struct B; fn g(b: B) { let f = b.f; println!(\"{}\", b.f) }",
    ] {
        assert!(!is_circle(b), "{b}");
    }
}

#[test]
fn a_re_export_leads_to_the_file_that_defines() {
    // `user` and `ops/mod.rs` are no circle: what `user` takes from `ops` is defined below it.
    let files = [
        ("lib.rs", "mod ops; mod user;"),
        ("ops/mod.rs", "mod span; pub use span::*; mod run; pub use self::run::Run as Walk;"),
        ("ops/span.rs", "pub struct Span;"),
        ("ops/run.rs", "use crate::user::User; pub struct Run;"),
        ("user.rs", "use crate::ops::{Span, Walk}; pub struct User;"),
    ];
    assert_eq!(circles_of(&files), [["ops/run.rs -> user.rs (User)", "user.rs -> ops/run.rs (Run)"]]);
}

#[test]
fn a_parent_is_in_a_circle_with_a_child_whose_names_it_uses_and_that_uses_its_own() {
    let child = ("engine/inbox.rs", "use super::Request; pub struct Inbox;");
    let files = |parent| [("lib.rs", "mod engine;"), ("engine/mod.rs", parent), child];
    let circle = ["engine/inbox.rs -> engine/mod.rs (Request)", "engine/mod.rs -> engine/inbox.rs (Inbox)"];
    assert_eq!(circles_of(&files("mod inbox; pub struct Request; pub struct Engine(inbox::Inbox);")), [circle]);
    assert!(circles_of(&files("mod inbox; pub struct Request; pub use inbox::Inbox;")).is_empty());
}

#[test]
fn imports_that_lead_in_a_ring_have_an_end() {
    let files = [
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "pub use crate::b::*; pub use crate::b::X; fn f(x: X, y: Y) {}"),
        ("b.rs", "pub use crate::a::*; pub use crate::a::X;"),
    ];
    assert!(circles_of(&files).is_empty());
}

#[test]
fn modules_are_found_where_the_compiler_finds_them() {
    let files = [
        ("src/main.rs", "mod plain; mod nested { mod deep; } #[path = \"else/where.rs\"] mod moved;"),
        ("src/plain.rs", "mod below; use crate::moved::M; pub struct P;"),
        ("src/plain/below.rs", "use crate::plain::P; pub struct Below;"),
        ("src/nested/deep.rs", "use crate::plain::P; pub struct D;"),
        ("src/else/where.rs", "use crate::plain::P; pub struct M;"),
    ];
    assert_eq!(circles_of(&files), [["else/where.rs -> plain.rs (P)", "plain.rs -> else/where.rs (M)"]]);
}

#[test]
fn a_file_that_is_missing_or_no_rust_is_an_error_with_its_name() {
    for (files, word) in
        [(vec![("lib.rs", "mod gone;")], "gone"), (vec![("lib.rs", "mod broken;"), ("broken.rs", "fn {")], "broken.rs")]
    {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).unwrap());
        let error: anyhow::Result<Vec<Circle>> = circles(&folder.path().join("lib.rs"));
        assert!(format!("{:#}", error.unwrap_err()).contains(word));
    }
    assert!(circles(Path::new("/nowhere/lib.rs")).is_err());
}
