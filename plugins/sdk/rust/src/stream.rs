//! After the model, for answers that are sent piece by piece.

pub use crate::bindings::exports::souk::hooks::stream::{Ending, Opening, Piece, Step};

/// One answer on its way.
pub trait Transformer: 'static {
    /// Begins one.
    fn begin(opening: Opening) -> Self;

    /// Takes a piece and says what is sent.
    fn push(&mut self, piece: Piece) -> Step;

    /// The answer is over: what was held back is sent now.
    fn finish(&mut self, ending: Ending) -> Step;
}

/// Text of which the end may be the beginning of something: that much is held back until more text decides.
#[derive(Debug, Default)]
pub struct Held {
    text: String,
}

impl Held {
    /// Adds a text and has `decide` say how many bytes from the front are decided, and what is sent for them.
    pub fn push(&mut self, text: &str, decide: impl FnOnce(&str) -> Decided) -> String {
        self.text.push_str(text);
        let decided = decide(&self.text);
        self.text.drain(..decided.bytes);
        decided.send
    }

    /// What is still held back.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Takes what is held back.
    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }
}

/// How far a text is decided.
#[derive(Debug, Default, PartialEq)]
pub struct Decided {
    /// So many bytes from the front.
    pub bytes: usize,
    /// What is sent for them.
    pub send: String,
}
