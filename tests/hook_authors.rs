//! What `souk hook` does for authors, without a server: a new hook, its component, its cases.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn hook(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_souk")).arg("hook").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn plugins() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins")
}

/// A folder with a component that was recorded and one case of it.
fn redact(case: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("cases")).unwrap();
    std::fs::copy(plugins().join("tests/guests/redact.wasm"), folder.path().join("hook.wasm")).unwrap();
    std::fs::write(folder.path().join("cases/case.json"), case).unwrap();
    folder
}

fn path(folder: &tempfile::TempDir) -> &str {
    folder.path().to_str().unwrap()
}

#[test]
fn a_new_hook_of_each_language_has_a_case_and_the_interface() {
    let folder = tempfile::tempdir().unwrap();
    for language in ["rust", "js", "python", "c"] {
        let made = folder.path().join(format!("in-{language}"));
        let output = hook(&["new", "--lang", language, made.to_str().unwrap()]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let case = std::fs::read_to_string(made.join("cases/puts-the-name-in.json")).unwrap();
        assert!(serde_json::from_str::<Value>(&case).unwrap()["prompt"]["outcome"].is_object());
        assert!(made.join("hooks.wit").is_file());
        // What is built is not there yet, and that is told with what makes it.
        let output = hook(&["test", made.to_str().unwrap()]);
        assert!(!output.status.success());
        assert!(text(&output.stderr).contains("`souk hook build`"), "{}", text(&output.stderr));
    }
    let output = hook(&["build", folder.path().to_str().unwrap()]);
    assert!(text(&output.stderr).contains("begin with `souk hook new`"), "{}", text(&output.stderr));
}

#[test]
fn cases_that_come_out_as_recorded_are_told_with_what_they_took() {
    let component = plugins().join("tests/guests/pii-mask.wasm");
    let cases = plugins().join("examples/pii-mask/cases");
    let output = hook(&["test", component.to_str().unwrap(), "--cases", cases.to_str().unwrap()]);
    let told = text(&output.stdout);
    assert!(output.status.success(), "{told}{}", text(&output.stderr));
    assert!(told.contains("FUEL") && told.contains("masks-and-unmasks") && told.contains("as recorded"), "{told}");
    assert!(told.contains("exports prompt, answer, stream, describe"), "{told}");
    assert!(told.contains("imports config, log"), "{told}");
}

#[test]
fn a_case_that_comes_out_otherwise_is_shown_and_can_be_recorded() {
    let folder = redact(
        r#"{"about": "One word.", "config": {"words": ["a"]}, "answer": {"answer": {"text": "a b"}, "outcome": {"replaced": "x b"}}}"#,
    );
    let output = hook(&["test", path(&folder)]);
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("differs") && told.contains("One word."), "{told}");
    assert!(told.lines().any(|line| line.starts_with('-') && line.contains("x b")), "{told}");
    assert!(told.lines().any(|line| line.starts_with('+') && line.contains("[redacted] b")), "{told}");

    let output = hook(&["test", "--bless", path(&folder)]);
    assert!(output.status.success(), "{}", text(&output.stdout));
    let recorded = std::fs::read_to_string(folder.path().join("cases/case.json")).unwrap();
    let recorded: Value = serde_json::from_str(&recorded).unwrap();
    assert_eq!(recorded["answer"]["outcome"]["replaced"], "[redacted] b");
    assert!(hook(&["test", path(&folder)]).status.success());

    let output = hook(&["bench", "--seconds", "0", path(&folder)]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("P99"), "{}", text(&output.stdout));
}

#[test]
fn a_hook_that_fails_is_told_with_its_reason() {
    // It has no `prompt`, so a case that asks it for one fails.
    let folder = redact(r#"{"about": "No prompt.", "prompt": {"request": {"input": {"text": "x"}}}}"#);
    std::fs::copy(plugins().join("tests/guests/json-repair.wasm"), folder.path().join("hook.wasm")).unwrap();
    let output = hook(&["test", path(&folder)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("failed"), "{}", text(&output.stdout));
    std::fs::write(folder.path().join("cases/case.json"), r#"{"about": 1}"#).unwrap();
    assert!(text(&hook(&["test", path(&folder)]).stderr).contains("is no case"));
    std::fs::write(folder.path().join("hook.wasm"), b"\x7fELF").unwrap();
    assert!(text(&hook(&["test", path(&folder)]).stderr).contains("machine code"));
}

#[test]
#[cfg_attr(not(has_js_tools), ignore = "needs the tools that `make guests LANGUAGES=js` fetches")]
fn a_new_hook_is_built_and_its_case_comes_out_as_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("signed");
    let made_path = made.to_str().unwrap();
    assert!(hook(&["new", "--lang", "js", made_path]).status.success());
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache"))).unwrap();
    std::os::unix::fs::symlink(cache.join("souk/guests/npm/node_modules"), made.join("node_modules")).unwrap();

    let output = hook(&["build", made_path]);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("exports prompt, answer, stream, describe"), "{}", text(&output.stdout));
    let output = hook(&["test", made_path]);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}
