//! The replies of one request, as they come.

use std::pin::Pin;

use futures::stream::{self, Stream, StreamExt as _};
use souk_protocol::JobFailure;

use super::one::Reply;
use super::piece::Piece;
use crate::error::ApiError;

/// The replies of one request as they come, each piece with the reply's index. The first failure is the last item that
/// means anything: the request has failed. Dropping the stream ends the jobs that are not over.
pub(crate) type Replies = Pin<Box<dyn Stream<Item = (usize, Result<Piece, ApiError>)> + Send>>;

/// Interleaves replies. Failures name `constraint`, the field that asked for one, where that is at fault, and `adapter`
/// where it was taken down.
pub(crate) fn interleave(replies: Vec<Reply>, constraint: Option<String>, adapter: Option<String>) -> Replies {
    let pieces = replies.into_iter().enumerate().map(|(index, reply)| {
        Box::pin(stream::unfold(reply, move |mut reply| async move {
            let piece = reply.next().await?;
            Some(((index, piece), reply))
        }))
    });
    let named = move |(index, piece): (usize, Result<Piece, JobFailure>)| {
        (index, piece.map_err(|failure| ApiError::of_job(failure, constraint.as_deref(), adapter.as_deref())))
    };
    stream::select_all(pieces).map(named).boxed()
}
