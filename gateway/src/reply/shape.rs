//! How an API shapes its answers.

use serde::Serialize;

use super::collect::WholeReply;
use super::piece::Piece;

/// How an API shapes its answers.
pub(crate) trait Shape: Send + 'static {
    /// One event of a stream.
    type Chunk: Serialize;
    /// A whole answer.
    type Whole: Serialize;

    /// The whole answer, from its replies in order of their index.
    fn whole(self, replies: Vec<WholeReply>) -> Self::Whole;

    /// Hands out the chunks for one piece of one reply, in their order.
    fn piece(&mut self, index: usize, piece: Piece, send: impl FnMut(Self::Chunk));

    /// What comes after all replies are complete and before `[DONE]`.
    fn end(&mut self) -> Option<Self::Chunk>;
}
