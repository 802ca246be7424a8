//! Puts the name that the configuration gives into prompts and below answers.

use souk_hook::stream::{Ending, Opening, Piece, Step, Transformer};
use souk_hook::{answer, hook, prompt, texts, types::Request};

hook! {
    schema: include_str!("../config.schema.json"),
    prompt: on_prompt,
    answer: on_answer,
    stream: Signing,
}

fn on_prompt(mut request: Request) -> prompt::Outcome {
    let name = name();
    if texts::each(&mut request, |text| text.replace("my name", &name)) {
        prompt::Outcome::rewritten(request)
    } else {
        prompt::Outcome::Unchanged
    }
}

fn on_answer(answer: answer::Whole) -> answer::Outcome {
    answer::Outcome::Replaced(format!("{}\n{}", answer.text, name()))
}

struct Signing;

impl Transformer for Signing {
    fn begin(_opening: Opening) -> Self {
        Self
    }

    fn push(&mut self, piece: Piece) -> Step {
        Step::Send(piece.text)
    }

    fn finish(&mut self, _ending: Ending) -> Step {
        Step::Send(format!("\n{}", name()))
    }
}

fn name() -> String {
    let config = souk_hook::config();
    config.get("name").and_then(|name| name.as_str()).unwrap_or("nobody").to_owned()
}
