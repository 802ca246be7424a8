//! Words that an answer must not have: masked, or the answer ends there, or is refused. Across the pieces of a stream as well.

mod filter;

use filter::{Action, Filter, Passed};
use souk_hook::json::Value;
use souk_hook::stream::{Ending, Held, Opening, Piece, Step, Transformer};
use souk_hook::{answer, hook};

hook! {
    schema: include_str!("../config.schema.json"),
    answer: on_answer,
    stream: Filtering,
}

fn on_answer(answer: answer::Whole) -> answer::Outcome {
    let (mut filter, message) = configured();
    let passed = filter.pass(&answer.text, true);
    if passed.is_hit && filter.action == Action::Refuse {
        return answer::Outcome::refuse(403, message);
    }
    answer::Outcome::changed(&answer, passed.decided.send)
}

/// An answer on its way, with what may be the beginning of a word held back.
struct Filtering {
    filter: Filter,
    message: String,
    held: Held,
}

impl Filtering {
    fn step(&mut self, text: &str, is_last: bool) -> Step {
        let mut is_hit = false;
        let send = self.held.push(text, |text| {
            let Passed { decided, is_hit: hit } = self.filter.pass(text, is_last);
            is_hit = hit;
            decided
        });
        match (is_hit, self.filter.action) {
            (true, Action::Refuse) => Step::refuse(403, self.message.clone()),
            (true, Action::End) => Step::End(send),
            _ => Step::Send(send),
        }
    }
}

impl Transformer for Filtering {
    fn begin(_opening: Opening) -> Self {
        let (filter, message) = configured();
        Self { filter, message, held: Held::default() }
    }

    fn push(&mut self, piece: Piece) -> Step {
        self.step(&piece.text, false)
    }

    fn finish(&mut self, _ending: Ending) -> Step {
        self.step("", true)
    }
}

/// The filter, and what is said when it refuses.
fn configured() -> (Filter, String) {
    let config = souk_hook::config();
    let action = match config.text("action") {
        "end" => Action::End,
        "refuse" => Action::Refuse,
        _ => Action::Mask,
    };
    let is_whole = config.get("whole").and_then(Value::as_bool).unwrap_or(true);
    let or = |name: &str, otherwise: &str| config.get(name).and_then(Value::as_str).unwrap_or(otherwise).to_owned();
    let filter = Filter::new(&config.texts("words"), is_whole, action, or("mark", "***"));
    (filter, or("message", "the answer has words that are not allowed here"))
}
