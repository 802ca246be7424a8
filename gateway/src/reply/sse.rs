//! Replies as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use futures::stream;
use serde::Serialize;

use super::interleave::Replies;
use super::shape::Shape;
use crate::call::admit::Admission;
use crate::error::ApiError;
use crate::limits::GatewayLimits;

struct Streaming<S> {
    /// `None` once nothing more comes.
    replies: Option<Replies>,
    shape: S,
    ready: VecDeque<Event>,
    /// The request counts as under way until the client has everything or is gone.
    _admission: Admission,
}

/// Streams `replies`. When the client goes away the stream is dropped, and with it the jobs.
pub(crate) fn stream<S: Shape>(replies: Replies, shape: S, admission: Admission, limits: &GatewayLimits) -> Response {
    let streaming = Streaming { replies: Some(replies), shape, ready: VecDeque::new(), _admission: admission };
    let events = stream::unfold(streaming, |mut streaming| async move {
        let event = streaming.next().await?;
        Some((Ok::<_, Infallible>(event), streaming))
    });
    let keep_alive = KeepAlive::new().interval(limits.keep_alive).text("keep-alive");
    let headers = [("cache-control", "no-cache"), ("x-accel-buffering", "no")];
    (headers, Sse::new(events).keep_alive(keep_alive)).into_response()
}

/// Waits for the first piece, so that a request whose constraint cannot be compiled, or whose hook fails at once, is answered
/// with a status and not with an event. A stream that is silent for longer than its keep-alive begins anyway.
pub(crate) async fn begun(replies: Replies, limits: &GatewayLimits) -> Result<Replies, ApiError> {
    let mut replies = Box::pin(replies.peekable());
    match tokio::time::timeout(limits.keep_alive, replies.as_mut().peek()).await {
        Ok(Some((_, Err(_)))) => match replies.next().await {
            Some((_, Err(error))) => Err(error),
            _ => Ok(replies),
        },
        _ => Ok(replies),
    }
}

impl<S: Shape> Streaming<S> {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            match self.replies.as_mut()?.next().await {
                Some((index, Ok(piece))) => {
                    let chunks = self.shape.piece(index, piece);
                    self.ready.extend(chunks.iter().map(data));
                }
                Some((_, Err(error))) => {
                    self.replies = None;
                    return Some(failed(&error));
                }
                None => {
                    self.replies = None;
                    self.ready.extend(self.shape.end().iter().map(data));
                    self.ready.push_back(Event::default().data("[DONE]"));
                }
            }
        }
    }
}

fn data(chunk: &impl Serialize) -> Event {
    write(Event::default(), chunk)
}

fn write(event: Event, data: &impl Serialize) -> Event {
    event.json_data(data).expect("chunks are structs with string keys")
}

/// A failure in mid-stream: an error event, after which the stream closes without `[DONE]`.
fn failed(error: &ApiError) -> Event {
    error.log();
    write(Event::default().event("error"), &error.body())
}
