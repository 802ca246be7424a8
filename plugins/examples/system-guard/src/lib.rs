//! Puts the system prompt first, keeps others' out, and keeps an answer from telling it.

mod leak;

use leak::{Found, Secret};
use souk_hook::json::Value;
use souk_hook::stream::{Decided, Ending, Held, Opening, Piece, Step, Transformer};
use souk_hook::types::{Input, Message, Request};
use souk_hook::{answer, hook, prompt};

hook! {
    schema: include_str!("../config.schema.json"),
    prompt: on_prompt,
    answer: on_answer,
    stream: Guarding,
}

fn on_prompt(mut request: Request) -> prompt::Outcome {
    let config = souk_hook::config();
    let system = config.text("system");
    match &mut request.input {
        Input::Text(text) => text.insert_str(0, &format!("{system}\n\n")),
        Input::Messages(messages) => {
            let is_others = |message: &Message| matches!(message.role.as_str(), "system" | "developer");
            match config.text("others") {
                "keep" => {}
                "refuse" if messages.iter().any(is_others) => {
                    return prompt::Outcome::refuse(
                        400,
                        "the system prompt is given here: leave out system and developer messages",
                    );
                }
                _ => messages.retain(|message| !is_others(message)),
            }
            messages.insert(0, Message::new("system", system));
        }
    }
    prompt::Outcome::rewritten(request)
}

fn on_answer(answer: answer::Whole) -> answer::Outcome {
    let guard = Guard::configured();
    match guard.secret.find(&answer.text, true) {
        Found { leak: true, .. } if guard.is_refusing => answer::Outcome::refuse(403, guard.message),
        Found { leak: true, decided } => answer::Outcome::Replaced(answer.text[..decided].trim_end().to_owned()),
        Found { leak: false, .. } => answer::Outcome::Unchanged,
    }
}

/// What the configuration says.
struct Guard {
    secret: Secret,
    is_refusing: bool,
    message: String,
}

impl Guard {
    fn configured() -> Self {
        let config = souk_hook::config();
        let least = config.get("leak_words").and_then(Value::as_u32).unwrap_or(8);
        let message =
            config.get("message").and_then(Value::as_str).unwrap_or("the answer would have told the system prompt");
        Self {
            secret: Secret::new(config.text("system"), least as usize),
            is_refusing: config.text("on_leak") != "end",
            message: message.to_owned(),
        }
    }
}

/// An answer on its way; what may be the beginning of a leak is held back.
struct Guarding {
    guard: Guard,
    held: Held,
}

impl Guarding {
    fn step(&mut self, text: &str, is_last: bool) -> Step {
        let mut leak = false;
        let send = self.held.push(text, |text| {
            let found = self.guard.secret.find(text, is_last);
            leak = found.leak;
            Decided { bytes: found.decided, send: text[..found.decided].to_owned() }
        });
        match (leak, self.guard.is_refusing) {
            (true, true) => Step::refuse(403, self.guard.message.clone()),
            (true, false) => Step::End(send.trim_end().to_owned()),
            (false, _) => Step::Send(send),
        }
    }
}

impl Transformer for Guarding {
    fn begin(_opening: Opening) -> Self {
        Self { guard: Guard::configured(), held: Held::default() }
    }

    fn push(&mut self, piece: Piece) -> Step {
        self.step(&piece.text, false)
    }

    fn finish(&mut self, _ending: Ending) -> Step {
        self.step("", true)
    }
}
