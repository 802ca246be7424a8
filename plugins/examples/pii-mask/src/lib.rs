//! Masks what tells of persons before the model and puts it back into the answer.
//!
//! The model sees `[EMAIL_1]`; which text that was goes from `prompt` to `answer` and `stream` in the carry, and nowhere else.

mod find;
mod masks;

use masks::Masks;
use souk_hook::json::Value;
use souk_hook::stream::{Ending, Held, Opening, Piece, Step, Transformer};
use souk_hook::types::{Input, Request};
use souk_hook::{answer, hook, prompt, replace, replace_all};

hook! {
    schema: include_str!("../config.schema.json"),
    prompt: on_prompt,
    answer: on_answer,
    stream: Unmasking,
}

fn on_prompt(mut request: Request) -> prompt::Outcome {
    let config = souk_hook::config();
    let mut masks = Masks::new(&request, config.texts("kinds"));
    let roles = config.get("roles").map(|_| config.texts("roles"));
    match &mut request.input {
        Input::Text(text) => *text = masks.mask(text),
        Input::Messages(messages) => {
            let chosen =
                messages.iter_mut().filter(|message| roles.as_ref().is_none_or(|roles| roles.contains(&message.role)));
            for message in chosen {
                if let Some(content) = &mut message.content {
                    *content = masks.mask(content);
                }
                for call in &mut message.tool_calls {
                    call.arguments = masks.mask(&call.arguments);
                }
            }
        }
    }
    if masks.is_empty() {
        return prompt::Outcome::Unchanged;
    }
    if masks.is_full() {
        return prompt::Outcome::refuse(413, "the prompt has more personal data than can be masked");
    }
    let is_unmasked = config.get("unmask").and_then(Value::as_bool).unwrap_or(true);
    let carry = if is_unmasked { masks.carry() } else { Vec::new() };
    prompt::Outcome::Rewritten(prompt::Rewritten { request, carry })
}

fn on_answer(answer: answer::Whole) -> answer::Outcome {
    let text = replace_all(&masks::originals(&answer.carry), &answer.text);
    answer::Outcome::changed(&answer, text)
}

/// Holds back what may be the beginning of a mask.
struct Unmasking {
    originals: Vec<(String, String)>,
    held: Held,
}

impl Transformer for Unmasking {
    fn begin(opening: Opening) -> Self {
        Self { originals: masks::originals(&opening.carry), held: Held::default() }
    }

    fn push(&mut self, piece: Piece) -> Step {
        Step::Send(self.held.push(&piece.text, |text| replace(&self.originals, text, false)))
    }

    fn finish(&mut self, _ending: Ending) -> Step {
        Step::Send(self.held.push("", |text| replace(&self.originals, text, true)))
    }
}
