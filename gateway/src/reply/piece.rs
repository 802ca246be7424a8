//! What a reply is handed over in.

use souk_protocol::{TokenId, TokenLogprobs, Usage};

/// What happens to one reply.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Piece {
    /// The prompt's logprobs, all of them; comes first, and only if they were asked for.
    Prompt(Vec<Option<TokenLogprobs>>),
    /// More of the answer. Text and tokens need not match one to one: both are held back while they could be part of a
    /// stop string.
    Delta {
        /// Whole characters.
        text: String,
        /// The tokens that became certain, with logprobs if they were asked for.
        tokens: Vec<Scored>,
    },
    /// The end; nothing follows.
    End {
        /// Why.
        finish: Finish,
        /// Exact counts.
        usage: Usage,
    },
}

/// Why an answer ended, as the API says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The model ended it, or a stop string did.
    Stop,
    /// `max_tokens` or the context's end.
    Length,
    /// A hook ended it.
    ContentFilter,
}

impl Finish {
    /// The word on the wire.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ContentFilter => "content_filter",
        }
    }
}

/// A token of the answer with its logprobs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scored {
    pub(crate) id: TokenId,
    pub(crate) logprobs: TokenLogprobs,
}
