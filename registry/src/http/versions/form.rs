//! The parts of a multipart form, bounded in what of the body is in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use futures::StreamExt as _;
use multer::{Field, Multipart};
use souk_http::serve::is_too_slow;

use crate::error::RegistryError;
use crate::publishing::Parts;

/// Most bytes of a body that are between the connection and the files. The parser of multipart bodies gathers until it
/// has the whole head of a part; a head that never ends would fill the memory. Honest clients stay far below: a
/// connection has at most 1 MiB ready at a time.
const MAX_HELD_BYTES: u64 = 8 << 20;

/// The parts of a request's form.
pub(crate) struct FormParts {
    form: Multipart<'static>,
    /// The part that is being read. Dropped before the next one is asked for, as the parser wants it.
    part: Option<Field<'static>>,
    held_bytes: HeldBytes,
}

/// Counts the bytes that the parser took and did not hand out yet.
#[derive(Clone, Default)]
struct HeldBytes(Arc<AtomicU64>);

impl HeldBytes {
    /// Answers the new count.
    fn took(&self, num_bytes: usize) -> u64 {
        self.0.fetch_add(num_bytes as u64, Ordering::Relaxed) + num_bytes as u64
    }

    fn handed_out(&self, num_bytes: usize) {
        // The heads of parts are counted when taken and never handed out, so this cannot go below zero.
        self.0.fetch_sub(num_bytes as u64, Ordering::Relaxed);
    }
}

/// Why the body was cut off by us.
#[derive(Debug, thiserror::Error)]
#[error("the head of a multipart part has more than {MAX_HELD_BYTES} bytes")]
struct HeadTooLong;

impl FormParts {
    /// The form in the request's body.
    pub(crate) fn of(request: Request) -> Result<Self, RegistryError> {
        let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let boundary = multer::parse_boundary(content_type.unwrap_or_default()).map_err(|_| {
            let given = content_type.unwrap_or("nothing");
            let detail = format!("an upload is multipart/form-data with a boundary, given {given}");
            RegistryError::UnsupportedMediaType(detail)
        })?;
        let held_bytes = HeldBytes::default();
        let counted = held_bytes.clone();
        let body = request.into_body().into_data_stream().map(move |chunk| {
            let chunk = chunk.map_err(axum::BoxError::from)?;
            if counted.took(chunk.len()) > MAX_HELD_BYTES {
                return Err(axum::BoxError::from(HeadTooLong));
            }
            Ok::<Bytes, axum::BoxError>(chunk)
        });
        Ok(Self { form: Multipart::new(body, boundary), part: None, held_bytes })
    }
}

#[async_trait]
impl Parts for FormParts {
    async fn next_part(&mut self) -> Result<Option<String>, RegistryError> {
        self.part = None;
        self.part = self.form.next_field().await.map_err(|error| malformed(&error))?;
        Ok(self.part.as_ref().map(|part| part.name().unwrap_or_default().to_owned()))
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let Some(part) = &mut self.part else { return Ok(None) };
        let chunk = part.chunk().await.map_err(|error| malformed(&error))?;
        self.held_bytes.handed_out(chunk.as_ref().map_or(0, Bytes::len));
        Ok(chunk)
    }
}

/// The body is not multipart, or ends before it should: mostly a client that went away.
fn malformed(error: &multer::Error) -> RegistryError {
    if is_too_slow(error) {
        return RegistryError::SlowBody;
    }
    let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
    RegistryError::bad_request("malformed_multipart", format!("the form cannot be read: {error}{cause}"))
}
