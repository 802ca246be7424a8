//! Whole answers.

use futures::StreamExt as _;
use souk_protocol::{TokenLogprobs, Usage};

use super::{Answers, Finish, Piece, Scored};
use crate::error::ApiError;

/// One complete answer.
#[derive(Clone, Debug)]
pub(crate) struct WholeAnswer {
    pub(crate) prompt: Vec<Option<TokenLogprobs>>,
    pub(crate) text: String,
    pub(crate) tokens: Vec<Scored>,
    pub(crate) finish: Finish,
    pub(crate) usage: Usage,
}

/// Waits for all answers of a request, in order of their index. The first failure ends them all.
pub(crate) async fn collect(mut answers: Answers, num_answers: usize) -> Result<Vec<WholeAnswer>, ApiError> {
    let empty = WholeAnswer {
        prompt: Vec::new(),
        text: String::new(),
        tokens: Vec::new(),
        finish: Finish::Length,
        usage: Usage::default(),
    };
    let mut whole = vec![empty; num_answers];
    while let Some((index, piece)) = answers.next().await {
        let answer = &mut whole[index];
        match piece? {
            Piece::Prompt(logprobs) => answer.prompt = logprobs,
            Piece::Delta { text, tokens } => {
                answer.text.push_str(&text);
                answer.tokens.extend(tokens);
            }
            Piece::End { finish, usage } => (answer.finish, answer.usage) = (finish, usage),
        }
    }
    Ok(whole)
}
