//! Text and token ids. Nodes deal in ids alone; all text lives here.
//!
//! On the way in, [`ChatTemplate`] turns messages into one text and [`Tokenizer`] turns text into ids; on the way out,
//! [`Detokenizer`] turns ids into whole characters and [`StopMatcher`] ends the answer at a stop string.

pub mod detokenize;
pub mod disarm;
pub mod stop;
pub mod template;
pub mod tokenizer;

pub use detokenize::Detokenizer;
pub use stop::StopMatcher;
pub use template::{ChatTemplate, TemplateError, TemplateLimits};
pub use tokenizer::{Tokenizer, TokenizerError};
