//! Recorded cases of every example.

use std::collections::BTreeSet;

use souk_plugins::{Export, Tier};

use crate::guests::{Guests, component, recorded};

/// Examples whose components are committed, with what they export beside `describe`.
const EXAMPLES: [(&str, &[Export]); 10] = [
    ("json-repair", &[Export::Answer, Export::Stream]),
    ("length-guard", &[Export::Prompt, Export::Answer, Export::Stream]),
    ("lora-land", &[Export::Prompt, Export::Answer, Export::Stream]),
    ("pii-mask", &[Export::Prompt, Export::Answer, Export::Stream]),
    ("prompt-template", &[Export::Prompt]),
    ("redact", &[Export::Prompt, Export::Answer, Export::Stream]),
    ("redact-c", &[Export::Prompt, Export::Answer, Export::Stream]),
    ("redact-js", &[Export::Prompt, Export::Answer, Export::Stream]),
    ("stop-words", &[Export::Answer, Export::Stream]),
    ("system-guard", &[Export::Prompt, Export::Answer, Export::Stream]),
];

/// What hooks may import.
const OFFERED: [&str; 6] = ["clock", "config", "log", "random", "tokenize", "variables"];

#[tokio::test(flavor = "multi_thread")]
async fn examples_make_of_each_case_what_was_recorded() {
    let guests = Guests::new();
    for (example, _) in EXAMPLES {
        guests.run(example, &component(&recorded(), example), Tier::Usual).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_pass_intake_and_say_what_they_are() {
    let guests = Guests::new();
    for (example, exports) in EXAMPLES {
        let component = component(&recorded(), example);
        let report = guests.check(&component, Tier::Usual);
        assert!(
            report.imports.iter().all(|import| OFFERED.contains(&import.as_str())),
            "{example}: {:?}",
            report.imports
        );

        let hook = guests.hook(&component).await;
        let expected: BTreeSet<_> = exports.iter().copied().chain([Export::Describe]).collect();
        assert_eq!(hook.exports(), &expected, "{example}");
        let (description, _) = hook.describe(&guests.context(Tier::Usual)).await.unwrap();
        let description = description.unwrap();
        assert_eq!(description.name, example);
        let schema: serde_json::Value = serde_json::from_str(&description.config_schema.unwrap()).unwrap();
        assert_eq!(schema["type"], "object", "{example}");
    }
}

#[test]
fn every_example_is_here() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let folders = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<_> = folders.filter(|path| path.join("cases").is_dir()).collect();
    names.sort();
    let names: Vec<_> = names.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    let mut known: Vec<_> = EXAMPLES.iter().map(|(name, _)| *name).collect();
    known.push("redact-python");
    known.sort_unstable();
    assert_eq!(names, known);
}
