//! Whole replies.

use futures::StreamExt as _;
use souk_protocol::{TokenLogprobs, Usage};

use super::interleave::Replies;
use super::piece::{Finish, Piece, Scored};
use crate::error::ApiError;

/// One complete reply.
#[derive(Clone, Debug)]
pub(crate) struct WholeReply {
    pub(crate) prompt: Vec<Option<TokenLogprobs>>,
    pub(crate) text: String,
    pub(crate) tokens: Vec<Scored>,
    pub(crate) finish: Finish,
    pub(crate) usage: Usage,
}

/// Waits for all replies of a request, in order of their index. The first failure ends them all.
pub(crate) async fn collect(mut replies: Replies, num_replies: usize) -> Result<Vec<WholeReply>, ApiError> {
    let empty = WholeReply {
        prompt: Vec::new(),
        text: String::new(),
        tokens: Vec::new(),
        finish: Finish::Length,
        usage: Usage::default(),
    };
    let mut whole = vec![empty; num_replies];
    while let Some((index, piece)) = replies.next().await {
        let reply = &mut whole[index];
        match piece? {
            Piece::Prompt(logprobs) => reply.prompt = logprobs,
            Piece::Delta { text, tokens } => {
                reply.text.push_str(&text);
                reply.tokens.extend(tokens);
            }
            Piece::End { finish, usage } => (reply.finish, reply.usage) = (finish, usage),
        }
    }
    Ok(whole)
}
