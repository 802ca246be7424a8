//! What is uploaded and is no hook, or one that must not be compiled.

use std::fmt::Write as _;

use proptest::prelude::*;
use souk_plugins::intake::{Bounds, IntakeError, Report, check};
use souk_plugins::{Export, HookSettings, Tier};
use souk_testkit::fuzz;

use crate::guest::{SEND, UNCHANGED, component, component_of, prompt, prompt_module, prompt_with, stream};

fn taken(bytes: &[u8]) -> Result<Report, IntakeError> {
    let settings = HookSettings::default();
    check(bytes, &Bounds::new(&settings, Tier::Usual, &settings.limits))
}

fn code(bytes: &[u8]) -> &'static str {
    taken(bytes).unwrap_err().code()
}

#[test]
fn a_hook_is_taken_with_what_it_does_and_asks_for() {
    let log = r#"(import "souk:hooks/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#;
    let bytes = prompt_with(log, "", &format!("(call $log (i32.const 0) (i32.const 0) (i32.const 0)) {UNCHANGED}"));
    let report = taken(&bytes).unwrap();
    assert_eq!((report.generation.as_str(), report.size_bytes), ("0.1.0", bytes.len() as u64));
    assert_eq!(report.exports, [Export::Prompt].into());
    assert_eq!(report.imports, ["log".to_owned()].into());
    assert_eq!((report.memory_bytes, report.num_functions > 1), (2 << 16, true));
    assert_eq!(taken(&stream("", SEND)).unwrap().exports, [Export::Stream].into());
}

#[test]
fn what_is_no_component_is_told_what_it_is() {
    assert_eq!(code(b""), "empty");
    assert_eq!(code(&wat::parse_str("(module)").unwrap()), "core_module");
    assert_eq!(code(b"\x7fELF\x02\x01\x01"), "machine_code");
    assert_eq!(code(b" (component)"), "text");
    assert_eq!(code(b"%PDF-1.7"), "not_wasm");
    assert_eq!(code(&wat::parse_str("(component)").unwrap()), "nothing_exported");
    let message = taken(b"%PDF-1.7").unwrap_err().to_string();
    assert!(message.ends_with("255044462d312e37"), "{message}");
}

/// What an engine made is machine code to whoever asks, however it is called.
#[test]
fn what_was_compiled_elsewhere_is_not_taken() {
    let key = souk_plugins::SealingKey::new(secrecy::SecretString::from("theirs"));
    let sealed = souk_plugins::compile_here(&prompt(UNCHANGED), &key).unwrap();
    assert_eq!(code(&sealed), "not_wasm");
    let compiled = sealed.windows(4).position(|four| four == b"\x7fELF").unwrap();
    assert_eq!(code(&sealed[compiled..]), "machine_code");
}

#[test]
fn a_hundred_megabytes_are_refused_unread() {
    let bytes = vec![0; 100 << 20];
    assert_eq!(taken(&bytes), Err(IntakeError::TooLarge { given: 100 << 20, limit: 4 << 20 }));
}

#[test]
fn what_imports_anything_of_the_system_is_told_how_to_build_without() {
    // Of what can be done with it nothing is left: the instance is empty.
    let empty =
        r#"(component (import "wasi:cli/environment@0.2.0" (instance)) (import "wasi:io/poll@0.2.0" (instance)))"#;
    let error = taken(&wat::parse_str(empty).unwrap()).unwrap_err();
    let IntakeError::Wasi { names } = &error else { panic!("{error}") };
    assert_eq!(names, "wasi:cli/environment@0.2.0, wasi:io/poll@0.2.0");
    for flag in ["--stub-wasi", "wasm32-unknown-unknown", "souk hook build"] {
        assert!(error.to_string().contains(flag), "{error}");
    }
}

#[test]
fn what_imports_what_there_is_not_is_told_what_there_is() {
    for import in ["souk:hooks/store@0.1.0", "acme:net/http@1.0.0", "secrets"] {
        let bytes = wat::parse_str(format!(r#"(component (import "{import}" (instance)))"#)).unwrap();
        let error = taken(&bytes).unwrap_err();
        assert_eq!(error.code(), "foreign_import", "{import}");
        assert!(error.to_string().contains(import) && error.to_string().contains("log, config, variables"), "{error}");
    }
    let function = r#"(component (import "exec" (func (param "command" string))))"#;
    assert_eq!(code(&wat::parse_str(function).unwrap()), "foreign_import");
}

#[test]
fn what_was_built_for_another_version_is_told_which_there_are() {
    for import in ["souk:hooks/log@0.2.0", "souk:hooks/log@0.1.1", "souk:hooks/log"] {
        let bytes = wat::parse_str(format!(r#"(component (import "{import}" (instance)))"#)).unwrap();
        let error = taken(&bytes).unwrap_err();
        assert_eq!(error.code(), "other_version", "{import}");
        assert!(error.to_string().contains("0.1.0"), "{error}");
    }
    // As one that is not released yet would be: the same interface under a later version.
    let folder = tempfile::tempdir().unwrap();
    let wit = include_str!("../../wit/since-v0.1.0/hooks.wit").replace("souk:hooks@0.1.0", "souk:hooks@0.9.0");
    std::fs::write(folder.path().join("hooks.wit"), wit).unwrap();
    let worlds = "package enemies:worlds; world prompt { export souk:hooks/prompt@0.9.0; }";
    let module = prompt_module("", "", UNCHANGED).replace("@0.1.0", "@0.9.0");
    let bytes = component_of(folder.path().to_str().unwrap(), worlds, "prompt", &module);
    assert_eq!(taken(&bytes).unwrap_err().code(), "other_version");
}

#[test]
fn what_only_describes_itself_does_nothing() {
    let module = r#"(module (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
        (func (export "souk:hooks/describe@0.1.0#get") (result i32) (i32.const 16)))"#;
    assert_eq!(code(&component("describe", module)), "nothing_exported");
}

#[test]
fn what_hooks_may_not_use_of_webassembly_is_not_taken() {
    for (what, rest) in [
        ("threads", "(memory $shared 1 1 shared)"),
        ("64-bit memories", "(memory $wide i64 1)"),
        ("several memories", "(memory 1) (memory 1)"),
        (
            "relaxed instructions",
            "(func (param v128 v128) (result v128) (i8x16.relaxed_swizzle (local.get 0) (local.get 1)))",
        ),
        ("exceptions", "(tag $t) (func (throw $t))"),
        ("garbage collection", "(type $s (struct)) (func (drop (struct.new $s)))"),
    ] {
        // The tool that makes components does not take some of these itself: they are put in as a module that nobody uses.
        let module = wat::parse_str(format!("(module {rest})")).unwrap();
        let bytes = [prompt(UNCHANGED), section(1, &module)].concat();
        let error = taken(&bytes).unwrap_err();
        assert_eq!(error.code(), "invalid", "{what}: {error}");
    }
    let plain = [prompt(UNCHANGED), section(1, &wat::parse_str("(module)").unwrap())].concat();
    taken(&plain).unwrap();
}

/// A section of a component: its number, its length, its bytes.
fn section(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut section = vec![number];
    let mut length = bytes.len();
    while length > 0x7f {
        section.push(0x80 | (length & 0x7f) as u8);
        length >>= 7;
    }
    section.push(length as u8);
    [section, bytes.to_vec()].concat()
}

/// The compile bomb: one function of 1.2 MB with a thousand locals, 68 s and 2.5 GB.
#[test]
fn functions_that_take_long_to_compile_are_not_taken() {
    let locals = |count: usize| format!("(func (local{}))", " i32".repeat(count));
    assert_eq!(taken(&prompt_with("", &locals(1900), UNCHANGED)).map(|report| report.most_locals), Ok(1900));
    let error = taken(&prompt_with("", &locals(2100), UNCHANGED)).unwrap_err();
    assert_eq!(error, IntakeError::TooMuch { what: "a function with locals:", given: 2100, limit: 2000 });
    let error = taken(&prompt_with("", &long_function(300_000), UNCHANGED)).unwrap_err();
    assert!(matches!(error, IntakeError::TooMuch { what: "a function of bytes:", .. }), "{error}");
    let mut many = String::new();
    (0..25_000).for_each(|_| many.push_str("(func)"));
    let error = taken(&prompt_with("", &many, UNCHANGED)).unwrap_err();
    assert!(matches!(error, IntakeError::TooMuch { what: "functions:", .. }), "{error}");
}

/// A function of about so many bytes whose locals all depend on one another.
pub(crate) fn long_function(bytes: usize) -> String {
    let mut body = String::from("(func (param i32) (result i32) (local");
    (0..500).for_each(|_| body.push_str(" i32"));
    body.push(')');
    for step in 0..bytes / 16 {
        let (a, b, c) = (step * 7 % 500, step * 13 % 500, step * 31 % 500);
        write!(
            body,
            "(local.set {a} (i32.add (local.get {b}) (local.get {c}))) (if (local.get {a}) (then (local.set {b} (i32.const 1))))"
        )
        .unwrap();
    }
    body + "(local.get 0))"
}

#[test]
fn components_in_components_and_instances_have_their_number() {
    let deep = (0..8).fold(String::from("(component)"), |inner, _| format!("(component {inner})"));
    let error = taken(&[prompt(UNCHANGED), section(4, &wat::parse_str(&deep).unwrap())].concat()).unwrap_err();
    assert!(matches!(error, IntakeError::TooMuch { what: "components in one another:", .. }), "{error}");
    let wide = format!("(component {})", "(core module)".repeat(300));
    let error = taken(&[prompt(UNCHANGED), section(4, &wat::parse_str(&wide).unwrap())].concat()).unwrap_err();
    assert!(matches!(error, IntakeError::TooMuch { what: "parts:", .. }), "{error}");
}

#[test]
fn any_bytes_of_a_component_are_taken_or_told_why() {
    let settings = HookSettings::default();
    let bounds = Bounds::new(&settings, Tier::Usual, &settings.limits);
    fuzz("hook_component", |bytes| match check(bytes, &bounds) {
        Ok(report) => format!("taken {:?} {:?}", report.exports, report.imports),
        Err(error) => format!("{} {error}", error.code()),
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever changes in a component: what is taken has what it is said to have, and nothing panics.
    #[test]
    fn a_component_with_changed_bytes_is_taken_or_told_why(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = prompt(UNCHANGED);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        match taken(&bytes) {
            Ok(report) => prop_assert!(report.exports.contains(&Export::Prompt)),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
