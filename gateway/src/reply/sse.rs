//! Replies as server-sent events: those of one piece are written at once.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream;
use serde::Serialize;
use tokio::time::timeout;

use super::interleave::Replies;
use super::shape::Shape;
use crate::call::admit::Admission;
use crate::error::ApiError;
use crate::limits::GatewayLimits;

/// A comment, so that proxies keep a connection on which nothing comes.
const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";
const DONE: &[u8] = b"data: [DONE]\n\n";
/// More than the events of most pieces take.
const EVENTS_BYTES: usize = 1024;

struct Streaming<S> {
    /// `None` once nothing more comes.
    replies: Option<Replies>,
    shape: S,
    /// Events are written here one after the other; what of it the client has been sent is used again.
    events: BytesMut,
    /// The request counts as under way until the client has everything or is gone.
    _admission: Admission,
}

/// Streams `replies`. When the client goes away the stream is dropped, and with it the jobs.
pub(crate) fn stream<S: Shape>(replies: Replies, shape: S, admission: Admission, limits: &GatewayLimits) -> Response {
    let events = BytesMut::with_capacity(EVENTS_BYTES);
    let (streaming, keep_alive) =
        (Streaming { replies: Some(replies), shape, events, _admission: admission }, limits.keep_alive);
    let events = stream::unfold(streaming, move |mut streaming| async move {
        let events = match timeout(keep_alive, streaming.next()).await {
            Ok(events) => events?,
            Err(_) => Bytes::from_static(KEEP_ALIVE),
        };
        Some((Ok::<_, Infallible>(events), streaming))
    });
    let headers = [
        (CONTENT_TYPE.as_str(), "text/event-stream"),
        (CACHE_CONTROL.as_str(), "no-cache"),
        ("x-accel-buffering", "no"),
    ];
    (headers, Body::from_stream(events)).into_response()
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
    /// The events of the next piece. Nothing is lost where this is dropped before it is ready.
    async fn next(&mut self) -> Option<Bytes> {
        let events = &mut self.events;
        while events.is_empty() {
            match self.replies.as_mut()?.next().await {
                Some((index, Ok(piece))) => {
                    self.shape.piece(index, piece, |chunk| write(events, &chunk));
                }
                Some((_, Err(error))) => {
                    self.replies = None;
                    failed(events, &error);
                }
                None => {
                    self.replies = None;
                    if let Some(chunk) = self.shape.end() {
                        write(events, &chunk);
                    }
                    events.extend_from_slice(DONE);
                }
            }
        }
        let sent = events.split().freeze();
        if sent.len() > EVENTS_BYTES {
            // Not kept for events that are as small as most again.
            *events = BytesMut::with_capacity(EVENTS_BYTES);
        }
        Some(sent)
    }
}

/// JSON has no line breaks of its own, so one line is all of it.
fn write(events: &mut BytesMut, data: &impl Serialize) {
    events.extend_from_slice(b"data: ");
    serde_json::to_writer((&mut *events).writer(), data).expect("chunks are structs with string keys");
    events.extend_from_slice(b"\n\n");
}

/// A failure in mid-stream: an error event, after which the stream closes without `[DONE]`.
fn failed(events: &mut BytesMut, error: &ApiError) {
    error.log();
    events.extend_from_slice(b"event: error\n");
    write(events, &error.body());
}
