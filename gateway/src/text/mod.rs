//! Text and token ids. Nodes deal in ids alone; all text lives here.
//!
//! On the way in, [`ChatTemplate`] turns messages into one text and [`Tokenizer`] turns text into ids; on the way out,
//! [`Detokenizer`] turns ids into whole characters and [`StopMatcher`] ends the answer at a stop string.

pub mod detokenize;
pub mod stop;
pub mod tokenizer;
mod words;

pub use detokenize::Detokenizer;
pub use souk_protocol::chat::{ChatTemplate, TemplateError, TemplateLimits, disarm, template};
pub use stop::StopMatcher;
pub use tokenizer::{Tokenizer, TokenizerError};
