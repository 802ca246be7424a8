//! The body of an upload, bounded in what of it is in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest as _, Multipart, Request};
use futures::StreamExt as _;

use crate::error::RegistryError;

/// Most bytes of a body that are between the connection and the files. The parser of multipart bodies gathers until it
/// has the whole head of a part; a head that never ends would fill the memory. Honest clients stay far below: a
/// connection has at most 1 MiB ready at a time.
const MAX_HELD_BYTES: u64 = 8 << 20;

/// Counts the bytes that the parser took and did not hand out yet.
#[derive(Clone, Default)]
pub(super) struct HeldBytes(Arc<AtomicU64>);

impl HeldBytes {
    /// Answers the new count.
    fn took(&self, num_bytes: usize) -> u64 {
        self.0.fetch_add(num_bytes as u64, Ordering::Relaxed) + num_bytes as u64
    }

    pub(super) fn handed_out(&self, num_bytes: usize) {
        // The heads of parts are counted when taken and never handed out, so this cannot go below zero.
        self.0.fetch_sub(num_bytes as u64, Ordering::Relaxed);
    }
}

/// Why the body was cut off by us.
#[derive(Debug, thiserror::Error)]
#[error("the head of a multipart part has more than {MAX_HELD_BYTES} bytes")]
struct HeadTooLong;

/// Puts a bound on what of the request's body is in memory; answers the request and the count.
pub(super) fn bounded(request: Request) -> (HeldBytes, Request) {
    let (parts, body) = request.into_parts();
    let held_bytes = HeldBytes::default();
    let counted = held_bytes.clone();
    let bounded = body.into_data_stream().map(move |chunk| {
        let chunk = chunk.map_err(axum::BoxError::from)?;
        if counted.took(chunk.len()) > MAX_HELD_BYTES {
            return Err(axum::BoxError::from(HeadTooLong));
        }
        Ok::<Bytes, axum::BoxError>(chunk)
    });
    (held_bytes, Request::from_parts(parts, Body::from_stream(bounded)))
}

/// The parser for the request's multipart body.
pub(super) async fn multipart(request: Request) -> Result<Multipart, RegistryError> {
    Multipart::from_request(request, &()).await.map_err(|rejection| {
        RegistryError::UnsupportedMediaType(format!("an upload is multipart/form-data: {}", rejection.body_text()))
    })
}
