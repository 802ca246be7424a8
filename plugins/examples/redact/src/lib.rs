//! Replaces words in requests and in answers; across the pieces of a stream as well.

use souk_hook::stream::{Ending, Held, Opening, Piece, Step, Transformer};
use souk_hook::{answer, hook, prompt, replace, replace_all, texts, types::Request};

hook! {
    schema: include_str!("../config.schema.json"),
    prompt: on_prompt,
    answer: on_answer,
    stream: Redacting,
}

fn on_prompt(mut request: Request) -> prompt::Outcome {
    let pairs = pairs();
    if texts::each(&mut request, |text| replace_all(&pairs, text)) {
        prompt::Outcome::rewritten(request)
    } else {
        prompt::Outcome::Unchanged
    }
}

fn on_answer(answer: answer::Whole) -> answer::Outcome {
    let text = replace_all(&pairs(), &answer.text);
    answer::Outcome::changed(&answer, text)
}

/// Sends what cannot be the beginning of a word.
struct Redacting {
    pairs: Vec<(String, String)>,
    held: Held,
}

impl Transformer for Redacting {
    fn begin(_opening: Opening) -> Self {
        Self { pairs: pairs(), held: Held::default() }
    }

    fn push(&mut self, piece: Piece) -> Step {
        Step::Send(self.held.push(&piece.text, |text| replace(&self.pairs, text, false)))
    }

    fn finish(&mut self, _ending: Ending) -> Step {
        Step::Send(self.held.push("", |text| replace(&self.pairs, text, true)))
    }
}

/// The words, each with what stands in its place.
fn pairs() -> Vec<(String, String)> {
    let config = souk_hook::config();
    let mark = config.get("mark").and_then(|mark| mark.as_str()).unwrap_or("[redacted]");
    config.texts("words").into_iter().map(|word| (word, mark.to_owned())).collect()
}
