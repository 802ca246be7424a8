//! Bounds of the conversation and of the answer.

mod cut;

use cut::Cut;
use souk_hook::json::Value;
use souk_hook::stream::{Ending, Opening, Piece, Step, Transformer};
use souk_hook::types::{Input, Message, Request};
use souk_hook::{answer, hook, prompt, tokenize};

hook! {
    schema: include_str!("../config.schema.json"),
    prompt: on_prompt,
    answer: on_answer,
    stream: Cutting,
}

fn on_prompt(mut request: Request) -> prompt::Outcome {
    let config = souk_hook::config();
    let most = |name: &str| config.get(name).and_then(Value::as_u32).unwrap_or(u32::MAX);
    let bounds = Bounds { messages: most("messages"), tokens: most("prompt_tokens") };
    let mut is_changed = false;
    match &mut request.input {
        Input::Text(text) => {
            let tokens = tokens(text, bounds.tokens);
            if tokens > bounds.tokens {
                return too_long(tokens, bounds.tokens, "tokens");
            }
        }
        Input::Messages(messages) => match bounds.check(messages, config.text("too_long") == "trim") {
            Ok(trimmed) => {
                is_changed = trimmed.len() < messages.len();
                *messages = trimmed;
            }
            Err(outcome) => return outcome,
        },
    }
    let answer_tokens = most("answer_tokens");
    if request.parameters.max_tokens.is_none_or(|asked| asked > answer_tokens) && answer_tokens < u32::MAX {
        request.parameters.max_tokens = Some(answer_tokens);
        is_changed = true;
    }
    if is_changed { prompt::Outcome::rewritten(request) } else { prompt::Outcome::Unchanged }
}

fn too_long(given: u32, most: u32, unit: &str) -> prompt::Outcome {
    prompt::Outcome::refuse(413, format!("the request has {given} {unit}, at most {most} are taken here"))
}

/// What is counted is not asked where it does not matter.
fn tokens(text: &str, most: u32) -> u32 {
    if most == u32::MAX { 0 } else { tokenize::count(text) }
}

/// What a conversation may have.
struct Bounds {
    messages: u32,
    tokens: u32,
}

impl Bounds {
    /// The conversation within the bounds, or what is said of it.
    fn check(&self, messages: &[Message], may_trim: bool) -> Result<Vec<Message>, prompt::Outcome> {
        let counts: Vec<u32> = messages
            .iter()
            .map(|message| tokens(message.content.as_deref().unwrap_or_default(), self.tokens))
            .collect();
        let mut is_kept = vec![true; messages.len()];
        let mut kept = messages.len() as u32;
        let mut sum = counts.iter().fold(0u32, |sum, count| sum.saturating_add(*count));
        // The oldest turn goes first; what the system says and the last message stay.
        for index in 0..messages.len().saturating_sub(1) {
            let fits = kept <= self.messages && sum <= self.tokens;
            // What a tool said to a message that is gone makes no sense.
            let is_orphan = messages[index].role == "tool"
                && !(0..index).any(|before| is_kept[before] && calls(&messages[before], &messages[index]));
            if !may_trim || (fits && !is_orphan) || matches!(messages[index].role.as_str(), "system" | "developer") {
                continue;
            }
            is_kept[index] = false;
            kept -= 1;
            sum = sum.saturating_sub(counts[index]);
        }
        if kept > self.messages {
            return Err(too_long(kept, self.messages, "messages"));
        }
        if sum > self.tokens {
            return Err(too_long(sum, self.tokens, "tokens"));
        }
        Ok(messages.iter().zip(is_kept).filter(|(_, is_kept)| *is_kept).map(|(message, _)| message.clone()).collect())
    }
}

/// Whether this message made the call that the other one answers.
fn calls(message: &Message, answer: &Message) -> bool {
    message.tool_calls.iter().any(|call| Some(&call.id) == answer.tool_call_id.as_ref())
}

fn on_answer(answer: answer::Whole) -> answer::Outcome {
    let mut cut = Cut::new(most_characters());
    match cut.push(&answer.text) {
        Some(text) => answer::Outcome::Replaced(text),
        None => answer::Outcome::Unchanged,
    }
}

fn most_characters() -> usize {
    let config = souk_hook::config();
    config.get("answer_characters").and_then(Value::as_u32).map_or(usize::MAX, |most| most as usize)
}

/// An answer on its way: a sentence is sent when it is all there.
struct Cutting {
    cut: Cut,
}

impl Transformer for Cutting {
    fn begin(_opening: Opening) -> Self {
        Self { cut: Cut::new(most_characters()) }
    }

    fn push(&mut self, piece: Piece) -> Step {
        match self.cut.push(&piece.text) {
            Some(last) => Step::End(last),
            None => Step::Send(self.cut.take_decided()),
        }
    }

    fn finish(&mut self, _ending: Ending) -> Step {
        Step::Send(self.cut.take_rest())
    }
}
