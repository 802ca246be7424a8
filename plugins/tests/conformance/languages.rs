//! The same hook in several languages does the same.

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use serde_json::json;
use souk_plugins::cases::{Case, PieceCase};
use souk_plugins::{Hook, Tier};
use tokio::runtime::Runtime;

use crate::guests::{Guests, component, recorded};

/// `redact` in each language whose component is committed.
struct Languages {
    runtime: Runtime,
    guests: Guests,
    hooks: Vec<(&'static str, Arc<Hook>)>,
}

static LANGUAGES: LazyLock<Languages> = LazyLock::new(|| {
    let runtime = Runtime::new().unwrap();
    let guests = Guests::new();
    let load = |name| (name, runtime.block_on(guests.hook(&component(&recorded(), name))));
    let hooks = ["redact", "redact-js", "redact-c"].map(load).into();
    Languages { runtime, guests, hooks }
});

impl Languages {
    /// What each made of a case.
    fn run(&self, case: &Case) -> Vec<(&'static str, Case)> {
        let context = self.guests.context(Tier::Usual);
        let run = |(name, hook): &(&'static str, Arc<Hook>)| {
            let ran = self.runtime.block_on(case.run(hook, &context));
            (*name, ran.unwrap_or_else(|error| panic!("{name}: {error} {:?}", error.detail)).case)
        };
        self.hooks.iter().map(run).collect()
    }
}

/// Texts of few different characters, so that words are found, cut and doubled in them.
fn text() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[ab\u{e9}\u{1f600}\"\\\\\n]{0,12}").unwrap()
}

fn words() -> impl Strategy<Value = Vec<String>> {
    let word = proptest::string::string_regex("[ab\u{e9}\u{1f600}\"\\\\\n]{1,3}").unwrap();
    proptest::collection::vec(word, 0..4)
}

prop_compose! {
    fn case()(
        words in words(),
        mark in proptest::option::of(text()),
        contents in proptest::collection::vec(proptest::option::of(text()), 1..4),
        is_text in any::<bool>(),
        // What JavaScript's numbers hold.
        seed in proptest::option::of(0u64..1 << 53),
        max_tokens in proptest::option::of(any::<u32>()),
        temperature in proptest::option::of(0f32..2.0),
        stop in proptest::collection::vec(text(), 0..3),
        answer in text(),
        pieces in proptest::collection::vec(text(), 0..6),
    ) -> Case {
        let messages = contents.iter().map(|content| json!({"role": "user", "content": content})).collect::<Vec<_>>();
        let input = if is_text { json!({"text": contents[0].clone().unwrap_or_default()}) } else { json!({"messages": messages}) };
        let parameters = json!({"seed": seed, "max_tokens": max_tokens, "temperature": temperature, "stop": stop});
        let config = match mark {
            Some(mark) => json!({"words": words, "mark": mark}),
            None => json!({"words": words}),
        };
        serde_json::from_value(json!({
            "about": "generated",
            "config": config,
            "prompt": {"request": {"input": input, "parameters": parameters}},
            "answer": {"answer": {"text": answer}},
            "stream": {"pieces": pieces},
        }))
        .unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn all_languages_make_the_same_of_any_case(case in case()) {
        let ran = LANGUAGES.run(&case);
        let (first, expected) = &ran[0];
        for (name, made) in &ran[1..] {
            prop_assert_eq!(made, expected, "{} and {}", name, first);
        }
        // What pieces give is what the whole gives.
        let pieces = case.stream.iter().flat_map(|stream| &stream.pieces);
        let text: String = pieces.map(|piece| match piece {
            PieceCase::Text(text) => text.as_str(),
            PieceCase::Piece(piece) => piece.text.as_str(),
        }).collect();
        let whole = json!({"about": "", "config": case.config, "answer": {"answer": {"text": text}}});
        let whole = &LANGUAGES.run(&serde_json::from_value(whole).unwrap())[0].1;
        let outcome = serde_json::to_value(whole.answer.as_ref().unwrap().outcome.as_ref().unwrap()).unwrap();
        let steps = serde_json::to_value(expected.stream.as_ref().unwrap().steps.as_ref().unwrap()).unwrap();
        let sent: String = steps.as_array().unwrap().iter().map(|step| step["send"].as_str().unwrap()).collect();
        prop_assert_eq!(outcome["replaced"].as_str().unwrap_or(&text), sent);
    }
}
