//! The body of an upload, bounded in what of it is in memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{FromRequest as _, Multipart, Request};
use futures::{Stream, StreamExt as _, stream};

use crate::error::RegistryError;

/// Most bytes of a body that are between the connection and the files. The parser of multipart bodies gathers until it
/// has the whole head of a part; a head that never ends would fill the memory. Honest clients stay far below: a
/// connection has at most 1 MiB ready at a time.
const MAX_HELD_BYTES: u64 = 8 << 20;

/// How much of a refused body is read away, and for how long, before the answer is given.
const DRAIN_BYTES: usize = 64 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// The body, shared between the multipart parser and whoever reads away what the parser left.
pub(super) struct BoundedBody {
    /// Locked for one poll at a time, never across an await.
    stream: Arc<Mutex<BodyDataStream>>,
    held_bytes: HeldBytes,
}

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

impl BoundedBody {
    /// Puts itself in the place of the request's body.
    pub(super) fn take_from(request: Request) -> (Self, Request) {
        let (parts, body) = request.into_parts();
        let body = Self { stream: Arc::new(Mutex::new(body.into_data_stream())), held_bytes: HeldBytes::default() };
        let held_bytes = body.held_bytes();
        let bounded = body.shared_stream().map(move |chunk| {
            let chunk = chunk.map_err(axum::BoxError::from)?;
            if held_bytes.took(chunk.len()) > MAX_HELD_BYTES {
                return Err(axum::BoxError::from(HeadTooLong));
            }
            Ok::<Bytes, axum::BoxError>(chunk)
        });
        (body, Request::from_parts(parts, Body::from_stream(bounded)))
    }

    pub(super) fn held_bytes(&self) -> HeldBytes {
        self.held_bytes.clone()
    }

    /// Reads away what is left, within bounds.
    pub(super) async fn drain(&self) {
        let read_away = async {
            let mut num_bytes = 0;
            let mut rest = self.shared_stream();
            while let Some(Ok(chunk)) = rest.next().await {
                num_bytes += chunk.len();
                if num_bytes > DRAIN_BYTES {
                    return;
                }
            }
        };
        // Too slow a client may see its connection reset; that is all.
        let _ = tokio::time::timeout(DRAIN_TIME, read_away).await;
    }

    fn shared_stream(&self) -> impl Stream<Item = Result<Bytes, axum::Error>> + Send + Unpin + 'static {
        let shared = self.stream.clone();
        stream::poll_fn(move |context| -> Poll<Option<Result<Bytes, axum::Error>>> {
            shared.lock().unwrap_or_else(PoisonError::into_inner).poll_next_unpin(context)
        })
    }
}

/// The parser for the request's multipart body.
pub(super) async fn multipart(request: Request) -> Result<Multipart, RegistryError> {
    Multipart::from_request(request, &()).await.map_err(|rejection| {
        RegistryError::UnsupportedMediaType(format!("an upload is multipart/form-data: {}", rejection.body_text()))
    })
}
