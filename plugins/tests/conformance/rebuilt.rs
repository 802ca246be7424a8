//! What `make guests` builds is what was recorded: the same bytes where the same compiler wrote them, the same behaviour in any case.

use std::collections::BTreeMap;
use std::path::Path;

use souk_plugins::Tier;
use souk_protocol::Digest;

use crate::guests::{Guests, built, component, has_cases, recorded};

/// A line of RECORDED: a component, its SHA-256, what a rebuild has in common with it, and which compiler wrote it.
struct Line {
    sha256: String,
    has_same_bytes: bool,
    compiler: String,
}

fn lines() -> BTreeMap<String, Line> {
    let text = std::fs::read_to_string(recorded().join("RECORDED")).unwrap();
    let parse = |line: &str| {
        let fields: Vec<_> = line.split(" | ").collect();
        let [name, sha256, same, compiler] = fields.as_slice() else { panic!("{line}") };
        assert!(matches!(*same, "bytes" | "behaviour"), "{line}");
        let line =
            Line { sha256: (*sha256).to_owned(), has_same_bytes: *same == "bytes", compiler: (*compiler).to_owned() };
        (name.strip_suffix(".wasm").unwrap().to_owned(), line)
    };
    text.lines().map(parse).collect()
}

fn sha256(component: &[u8]) -> String {
    Digest::of(component).hex()
}

#[test]
fn committed_components_are_those_that_were_recorded() {
    for (name, line) in lines().iter().filter(|(name, _)| *name != "redact-python") {
        assert_eq!(sha256(&component(&recorded(), name)), line.sha256, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_guests), ignore = "needs what `make guests` builds")]
async fn rebuilt_components_are_those_that_were_recorded() {
    let guests = Guests::new();
    let folder = built();
    let is_built = |name: &str| Path::new(&folder).join(format!("{name}.wasm")).exists();
    for (name, line) in lines().iter().filter(|(name, _)| is_built(name) && *name != "redact-python") {
        let component = component(&folder, name);
        let compiler = std::fs::read_to_string(folder.join(format!("{name}.compiler"))).unwrap();
        if line.has_same_bytes && compiler.trim() == line.compiler {
            assert_eq!(
                sha256(&component),
                line.sha256,
                "{name} is not what {compiler} made of it when it was recorded"
            );
        }
        guests.check(&component, Tier::Usual);
        if has_cases(name) {
            guests.run(name, &component, Tier::Usual).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(has_python_guest), ignore = "needs `make guests LANGUAGES=python`, 18 MB that are not committed")]
async fn python_makes_of_each_case_what_was_recorded() {
    let guests = Guests::new();
    let component = component(&built(), "redact-python");
    guests.check(&component, Tier::Large);
    guests.run("redact-python", &component, Tier::Large).await;
}
