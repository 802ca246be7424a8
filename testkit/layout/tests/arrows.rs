//! The arrows between our crates are those that ARCHITECTURE.md draws: it is the one table, and Cargo.toml must agree.

#![expect(clippy::unwrap_used, reason = "a test fails where the table or the workspace cannot be read")]

use std::collections::{BTreeMap, BTreeSet};

use souk_layout::workspace::{Package, Workspace};

type Arrows = BTreeMap<String, BTreeSet<String>>;

/// The lines `a -> b c` and `a, b -> none` of the first block of text after `sentence`.
fn drawn(sentence: &str) -> Arrows {
    let page = include_str!("../../../ARCHITECTURE.md");
    let after = page.split_once(sentence).unwrap_or_else(|| panic!("ARCHITECTURE.md does not say `{sentence}`")).1;
    let block = after.split_once("```text\n").unwrap().1.split_once("```").unwrap().0;
    let mut arrows = Arrows::new();
    for line in block.lines() {
        let (from, to) = line.split_once(" -> ").unwrap_or_else(|| panic!("no arrow: {line}"));
        let to: BTreeSet<String> = to.split_whitespace().filter(|name| *name != "none").map(str::to_owned).collect();
        for from in from.split(", ") {
            assert!(arrows.insert(from.to_owned(), to.clone()).is_none(), "{from} has two rows");
        }
    }
    arrows
}

/// A crate's name in the table.
fn short(name: &str) -> &str {
    name.strip_prefix("souk-").unwrap_or(name)
}

/// Those of our crates that a package depends on for the product, or for its tests.
fn dependencies(package: &Package, ours: &BTreeSet<String>, for_tests: bool) -> BTreeSet<String> {
    let wanted = package.dependencies.iter().filter(|one| (one.kind.as_deref() == Some("dev")) == for_tests);
    wanted.filter(|one| ours.contains(&one.name)).map(|one| short(&one.name).to_owned()).collect()
}

/// As Cargo.toml has them: others' crates may be called what ours are in short.
fn names(workspace: &Workspace) -> BTreeSet<String> {
    workspace.packages.iter().map(|package| package.name.clone()).collect()
}

#[test]
fn crates_import_what_the_page_draws_and_nothing_else() {
    let workspace = Workspace::own().unwrap();
    let ours = names(&workspace);
    let row = |package: &Package| (short(&package.name).to_owned(), dependencies(package, &ours, false));
    let found: Arrows = workspace.packages.iter().map(row).collect();
    assert_eq!(found, drawn("Who may import whom"), "left: Cargo.toml; right: ARCHITECTURE.md");
}

#[test]
fn tests_import_the_testkit_and_what_the_page_draws_for_them() {
    let workspace = Workspace::own().unwrap();
    let ours = names(&workspace);
    let may_always = drawn("Who may import whom");
    let row = |package: &Package| {
        let name = short(&package.name).to_owned();
        let mut extra = dependencies(package, &ours, true);
        extra.retain(|other| other != "testkit" && !may_always[&name].contains(other));
        (!extra.is_empty()).then_some((name, extra))
    };
    let found: Arrows = workspace.packages.iter().filter_map(row).collect();
    assert_eq!(found, drawn("Tests and benchmarks import the testkit"), "left: Cargo.toml; right: ARCHITECTURE.md");
}

#[test]
fn the_three_services_never_import_one_another() {
    let drawn = drawn("Who may import whom");
    let services = ["registry", "gateway", "node"];
    for service in services {
        assert!(services.iter().all(|other| !drawn[service].contains(*other)), "{service}");
    }
}
