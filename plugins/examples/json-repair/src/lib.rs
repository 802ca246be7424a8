//! Makes valid JSON of an answer that is nearly that, and holds it to a schema.
//!
//! Models write JSON into a fence, with a sentence before it, with single quotes or a comma too many, and stop at their most tokens in the
//! middle of it. A stream is held back until it is over: before that nobody knows whether it fits.

mod lenient;
mod schema;

use souk_hook::json::{self, Value};
use souk_hook::stream::{Ending, Opening, Piece, Step, Transformer};
use souk_hook::{answer, hook};

hook! {
    schema: include_str!("../config.schema.json"),
    answer: on_answer,
    stream: Whole,
}

fn on_answer(answer: answer::Whole) -> answer::Outcome {
    // An answer that only calls tools is not what the schema is about.
    if answer.text.is_empty() && !answer.tool_calls.is_empty() {
        return answer::Outcome::Unchanged;
    }
    match repaired(&answer.text) {
        Ok(text) => answer::Outcome::changed(&answer, text),
        Err(reason) => answer::Outcome::refuse(422, reason),
    }
}

/// A stream that is sent when it is whole.
struct Whole {
    text: String,
}

impl Transformer for Whole {
    fn begin(_opening: Opening) -> Self {
        Self { text: String::new() }
    }

    fn push(&mut self, piece: Piece) -> Step {
        self.text.push_str(&piece.text);
        Step::Send(String::new())
    }

    fn finish(&mut self, _ending: Ending) -> Step {
        match repaired(&self.text) {
            Ok(text) => Step::Send(text),
            Err(reason) => Step::refuse(422, reason),
        }
    }
}

/// The text that is sent, or why none is.
fn repaired(text: &str) -> Result<String, String> {
    let config = souk_hook::config();
    let fitting = json_of(text).and_then(|(value, sent)| match config.get("schema") {
        Some(schema) => schema::check(&value, schema).map(|()| sent),
        None => Ok(sent),
    });
    match fitting {
        Err(_) if config.text("otherwise") == "keep" => Ok(text.to_owned()),
        fitting => fitting,
    }
}

/// The value, and the text of it: as it came where that is valid.
fn json_of(text: &str) -> Result<(Value, String), String> {
    if let Ok(value) = json::parse(text) {
        return Ok((value, text.to_owned()));
    }
    let value = lenient::parse(text).ok_or("the answer has no JSON")?;
    let written = value.to_string();
    Ok((value, written))
}
