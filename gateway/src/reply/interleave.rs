//! The replies of one request, as they come.

use std::pin::Pin;

use futures::stream::{self, Stream, StreamExt as _};

use super::piece::Piece;
use crate::error::ApiError;

/// The replies of one request as they come, each piece with the reply's index. The first failure is the last item that
/// means anything: the request has failed. Dropping the stream ends the jobs that are not over.
pub(crate) type Replies = Pin<Box<dyn Stream<Item = (usize, Result<Piece, ApiError>)> + Send>>;

/// A reply that comes in pieces.
pub(crate) trait Pieces: Send + 'static {
    /// How it fails.
    type Failure: Send;

    /// The next piece; `None` after the end or a failure.
    fn next(&mut self) -> impl Future<Output = Option<Result<Piece, Self::Failure>>> + Send;
}

/// Interleaves replies; `named` makes the error of a failure.
pub(crate) fn interleave<P: Pieces>(
    replies: Vec<P>,
    named: impl Fn(P::Failure) -> ApiError + Send + 'static,
) -> Replies {
    let pieces = replies.into_iter().enumerate().map(|(index, reply)| {
        Box::pin(stream::unfold(reply, move |mut reply| async move {
            let piece = reply.next().await?;
            Some(((index, piece), reply))
        }))
    });
    let mut pieces: Vec<_> = pieces.collect();
    let named = move |(index, piece): (usize, Result<Piece, P::Failure>)| (index, piece.map_err(&named));
    match pieces.len() {
        // Most requests have one, and nobody has to be asked which of them is ready.
        1 => pieces.remove(0).map(named).fuse().boxed(),
        _ => stream::select_all(pieces).map(named).boxed(),
    }
}
