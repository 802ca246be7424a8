//! A hook for tests, which does what its configuration says: also what no hook should.
//!
//! ```json
//! {"prompt": {"do": "tag", "text": "a"}, "answer": {"do": "tag", "text": "b"}, "stream": {"do": "end", "after": 2}}
//! ```

use souk_hook::json::Value;
use souk_hook::stream::{Ending, Opening, Piece, Step, Transformer};
use souk_hook::types::{Constraint, Input, Message, Request};
use souk_hook::{answer, hook, log, prompt, texts};

hook! {
    prompt: on_prompt,
    answer: on_answer,
    stream: Acting,
}

/// What is to be done in a part.
fn told(part: &str) -> Value {
    souk_hook::config().get(part).cloned().unwrap_or(Value::Null)
}

/// What any part can be told: to fail in one way or another.
fn fail(told: &Value) {
    match told.text("do") {
        "trap" => panic!("the puppet was told to: {}", told.text("text")),
        "loop" => loop {
            std::hint::black_box(0);
        },
        "log" => log::write(log::Level::Info, told.text("text")),
        _ => {}
    }
}

fn status(told: &Value) -> u16 {
    told.get("status").and_then(Value::as_u32).unwrap_or(400) as u16
}

fn on_prompt(mut request: Request) -> prompt::Outcome {
    let told = told("prompt");
    fail(&told);
    let text = told.text("text");
    match told.text("do") {
        "answer" => return prompt::Outcome::Answered(text.to_owned()),
        "refuse" => return prompt::Outcome::refuse(status(&told), text),
        "see" => return prompt::Outcome::Answered(seen(&request)),
        "tag" => {
            texts::each(&mut request, |given| format!("{text}{given}"));
        }
        "carry" => {
            return prompt::Outcome::Rewritten(prompt::Rewritten { request, carry: text.as_bytes().to_vec() });
        }
        "double" => {
            texts::each(&mut request, |given| given.repeat(2));
        }
        "text" => request.input = Input::Text(text.to_owned()),
        "chat" => request.input = Input::Messages(vec![Message::new(told.text("role"), text)]),
        "temperature" => {
            request.parameters.temperature = told.get("number").and_then(Value::as_f64).map(|it| it as f32)
        }
        "not_a_number" => request.parameters.temperature = Some(f32::NAN),
        "max_tokens" => request.parameters.max_tokens = told.get("number").and_then(Value::as_u32),
        "stop" => request.parameters.stop = told.texts("stop"),
        "regex" => request.constraint = Some(Constraint::Regex(text.to_owned())),
        "adapter" => request.adapter = (!text.is_empty()).then(|| text.to_owned()),
        "choices" => request.choices += 1,
        "metadata" => request.metadata.clear(),
        _ => return prompt::Outcome::Unchanged,
    }
    prompt::Outcome::rewritten(request)
}

/// What it sees of a request, in a line.
fn seen(request: &Request) -> String {
    let input = match &request.input {
        Input::Messages(messages) => {
            let said = messages.iter().map(|it| format!("{}={}", it.role, it.content.as_deref().unwrap_or("-")));
            said.collect::<Vec<_>>().join(",")
        }
        Input::Text(text) => format!("text={text}"),
    };
    let Request { adapter, choices, is_streamed, metadata, parameters, constraint, .. } = request;
    let constraint = constraint.is_some();
    format!(
        "{input};adapter={adapter:?};choices={choices};streamed={is_streamed};metadata={metadata:?};temperature={:?};\
         max_tokens={:?};seed={:?};stop={:?};constraint={constraint}",
        parameters.temperature, parameters.max_tokens, parameters.seed, parameters.stop
    )
}

fn on_answer(answer: answer::Whole) -> answer::Outcome {
    let told = told("answer");
    fail(&told);
    let text = told.text("text");
    match told.text("do") {
        "tag" => answer::Outcome::Replaced(format!("{}{text}", answer.text)),
        "same" => answer::Outcome::Replaced(answer.text),
        "carry" => answer::Outcome::Replaced(format!("{}{}", answer.text, String::from_utf8_lossy(&answer.carry))),
        "see" => {
            let usage = answer.usage;
            let tokens = answer.tokens.map(|tokens| tokens.len());
            answer::Outcome::Replaced(format!(
                "{}:{};{}+{};tokens={tokens:?};{:?}",
                answer.index, answer.text, usage.prompt_tokens, usage.completion_tokens, answer.finish_reason
            ))
        }
        "refuse" => answer::Outcome::refuse(status(&told), text),
        "refuse_second" if answer.index == 1 => answer::Outcome::refuse(status(&told), text),
        _ => answer::Outcome::Unchanged,
    }
}

/// A stream that goes as it was told.
struct Acting {
    told: Value,
    opening: Opening,
    num_pieces: u32,
    held: String,
}

impl Acting {
    /// Whether it is the piece at which something is to happen; the first, if nothing is said.
    fn is_the_piece(&self) -> bool {
        self.num_pieces > self.told.get("after").and_then(Value::as_u32).unwrap_or(0)
    }
}

impl Transformer for Acting {
    fn begin(opening: Opening) -> Self {
        Self { told: told("stream"), opening, num_pieces: 0, held: String::new() }
    }

    fn push(&mut self, piece: Piece) -> Step {
        self.num_pieces += 1;
        let is_the_piece = self.is_the_piece();
        if is_the_piece {
            fail(&self.told);
        }
        let text = self.told.text("text");
        match self.told.text("do") {
            "hold" => {
                self.held.push_str(&piece.text);
                Step::Send(String::new())
            }
            // Nothing comes out before it fails.
            "trap" => {
                self.held.push_str(&piece.text);
                Step::Send(String::new())
            }
            "upper" => Step::Send(piece.text.to_uppercase()),
            "tokens" => Step::Send(format!("{}({})", piece.text, piece.tokens.len())),
            "end" if is_the_piece => Step::End(format!("{}{text}", piece.text)),
            "refuse" if is_the_piece => Step::refuse(status(&self.told), text),
            _ => Step::Send(piece.text),
        }
    }

    fn finish(&mut self, ending: Ending) -> Step {
        let text = self.told.text("text");
        match self.told.text("do") {
            "trap_at_end" => panic!("the puppet was told to"),
            "carry" => Step::Send(String::from_utf8_lossy(&self.opening.carry).into_owned()),
            "tag" => Step::Send(text.to_owned()),
            "see" => {
                let usage = ending.usage;
                let reason = ending.finish_reason;
                Step::Send(format!(";{}+{};{reason:?}", usage.prompt_tokens, usage.completion_tokens))
            }
            "hold" => Step::Send(format!("{}{text}", self.held)),
            _ => Step::Send(std::mem::take(&mut self.held)),
        }
    }
}
