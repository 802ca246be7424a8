//! Answers as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use futures::stream;
use serde::Serialize;

use super::{Answers, Piece};
use crate::admission::Admission;
use crate::error::ApiError;
use crate::limits::GatewayLimits;

/// How an API shapes its stream.
pub(crate) trait ChunkShape: Send + 'static {
    /// One event.
    type Chunk: Serialize;

    /// The chunks for one piece of one answer.
    fn piece(&mut self, index: usize, piece: Piece) -> Vec<Self::Chunk>;

    /// What comes after all answers are complete and before `[DONE]`.
    fn end(&mut self) -> Option<Self::Chunk>;
}

struct Streaming<S> {
    /// `None` once nothing more comes.
    answers: Option<Answers>,
    shape: S,
    ready: VecDeque<Event>,
    /// The request counts as under way until the client has everything or is gone.
    _admission: Admission,
}

/// Streams `answers`. When the client goes away the stream is dropped, and with it the jobs.
pub(crate) fn respond<S: ChunkShape>(
    answers: Answers,
    shape: S,
    admission: Admission,
    limits: &GatewayLimits,
) -> Response {
    let streaming = Streaming { answers: Some(answers), shape, ready: VecDeque::new(), _admission: admission };
    let events = stream::unfold(streaming, |mut streaming| async move {
        let event = streaming.next().await?;
        Some((Ok::<_, Infallible>(event), streaming))
    });
    let keep_alive = KeepAlive::new().interval(limits.keep_alive).text("keep-alive");
    let headers = [("cache-control", "no-cache"), ("x-accel-buffering", "no")];
    (headers, Sse::new(events).keep_alive(keep_alive)).into_response()
}

/// Waits for the first piece, so that a request whose constraint cannot be compiled is answered with a status and not with
/// an event. A stream that is silent for longer than its keep-alive begins anyway.
pub(crate) async fn begun(answers: Answers, limits: &GatewayLimits) -> Result<Answers, ApiError> {
    let mut answers = Box::pin(answers.peekable());
    match tokio::time::timeout(limits.keep_alive, answers.as_mut().peek()).await {
        Ok(Some((_, Err(_)))) => match answers.next().await {
            Some((_, Err(error))) => Err(error),
            _ => Ok(answers),
        },
        _ => Ok(answers),
    }
}

impl<S: ChunkShape> Streaming<S> {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            match self.answers.as_mut()?.next().await {
                Some((index, Ok(piece))) => {
                    let chunks = self.shape.piece(index, piece);
                    self.ready.extend(chunks.iter().map(data));
                }
                Some((_, Err(error))) => {
                    self.answers = None;
                    return Some(failed(&error));
                }
                None => {
                    self.answers = None;
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
