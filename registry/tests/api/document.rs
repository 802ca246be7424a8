//! What the OpenAPI document shows is what the server takes; the codes of problems are those of the documents.

use std::collections::BTreeSet;
use std::path::Path;

use reqwest::Method;
use serde_json::Value;

use crate::support::Stack;

fn document() -> Value {
    serde_json::to_value(souk_registry::openapi()).unwrap()
}

#[tokio::test]
async fn every_request_that_the_document_shows_has_the_form_that_its_route_takes() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    acme.publish("acme/sst2", "1.0.0", 1).await;
    for (path, operations) in document()["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let Some(content) = operation["requestBody"]["content"].get("application/json") else { continue };
            let example = &content["example"];
            let below = path.strip_prefix("/registry/v1").unwrap();
            assert!(!example.is_null(), "{method} {path}: its request is to be shown");
            let filled = below.replace("{owner}", "acme").replace("{name}", "sst2").replace("{version}", "1.0.0");
            let filled = filled.replace("{level}", "key");
            let method: Method = method.to_uppercase().parse().unwrap();
            let answer = stack.admin.request(method.clone(), &filled).json(example).send().await.unwrap();
            let status = answer.status();
            let text = answer.text().await.unwrap();
            // Whatever else is in its way, which another test tells.
            assert!(
                ![400, 408, 413, 415].contains(&status.as_u16()) && status.as_u16() < 500,
                "{method} {path}: {text}"
            );
        }
    }
}

/// The sources in a folder, without tests of units, which come last and have words that nobody answers with.
fn sources_in(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources_in(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push(text.split("#[cfg(test)]").next().unwrap().to_owned());
        }
    }
}

fn sources() -> Vec<String> {
    let mut found = Vec::new();
    sources_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    // What the server answers in the registry's place.
    found.push(include_str!("../../../http/src/client_certificate.rs").to_owned());
    found
}

/// Codes of problems: after each of these words comes one in quotes.
fn codes() -> BTreeSet<String> {
    const BEFORE: [&str; 4] = ["bad_request(", "code: ", "StatusCode::", "Problem::new("];
    let mut found = BTreeSet::new();
    for text in sources() {
        for before in BEFORE {
            for (at, _) in text.match_indices(before) {
                let rest = text[at + before.len()..].trim_start();
                let rest = rest.trim_start_matches(|c: char| c.is_ascii_uppercase() || c == '_' || c == ':');
                let rest = rest.trim_start_matches([',', ' ', '\n']);
                let code = rest.strip_prefix('"').and_then(|rest| rest.split('"').next());
                let is_code =
                    |code: &&str| !code.is_empty() && code.chars().all(|c| c.is_ascii_lowercase() || c == '_');
                found.extend(code.filter(is_code).map(str::to_owned));
            }
        }
    }
    found
}

#[test]
fn every_code_of_a_problem_is_in_the_table_of_errors_and_every_one_there_is_a_code() {
    let mut codes = codes();
    // Codes of findings, which stand in `errors`.
    let findings = ["invalid_value", "more_problems", "wrong_base"].map(str::to_owned);
    codes.retain(|code| !findings.contains(code));
    let page = include_str!("../../../docs/publish.md");
    let (_, table) = page.split_once("## Errors").unwrap();
    let rows =
        table.lines().filter(|line| line.starts_with("| ") && line[2..5].bytes().all(|byte| byte.is_ascii_digit()));
    let shown: BTreeSet<_> = rows
        .flat_map(|row| row.split('|').nth(2).unwrap().split_whitespace())
        .map(|code| code.trim_matches('`').to_owned())
        .collect();
    assert!(shown.len() > 40, "{shown:?}");
    let missing: Vec<_> = codes.difference(&shown).collect();
    let unknown: Vec<_> = shown.difference(&codes).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "not in the table: {missing:?}; not in the code: {unknown:?}");
}

#[test]
fn every_action_of_an_entry_is_in_the_table_of_the_audit_page_and_every_one_there_is_done() {
    const NOUNS: [&str; 20] = [
        "tenant",
        "member",
        "person",
        "invitation",
        "sign_in_link",
        "key",
        "policy",
        "adapter",
        "version",
        "upload",
        "tag",
        "webhook",
        "access",
        "signing_key",
        "service",
        "hook",
        "hook_version",
        "hook_settings",
        "hook_limits",
        "pipeline",
    ];
    let actions_in = |text: &str, quote: char| {
        let words = text.split(quote).filter(|word| {
            let is_word = |word: &str| word.chars().all(|c| c.is_ascii_lowercase() || c == '_') && !word.is_empty();
            word.split_once('.').is_some_and(|(noun, verb)| NOUNS.contains(&noun) && is_word(verb))
        });
        words.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let mut done: BTreeSet<_> = sources().iter().flat_map(|text| actions_in(text, '"')).collect();
    assert!(done.remove("access.decided"), "an event of what has entries of its own for each step");
    let page = include_str!("../../../docs/audit.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let shown: BTreeSet<_> = rows.flat_map(|row| actions_in(row.split('|').nth(1).unwrap(), '`')).collect();
    assert!(shown.len() > 30, "{shown:?}");
    assert_eq!(done, shown);
}
