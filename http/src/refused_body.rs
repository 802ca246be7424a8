//! Reads away what a refused request still sends, so that its client hears the refusal.
//!
//! A server that answers and closes while the client is still writing makes the client fail with a broken connection,
//! and the answer (too large, wrong key) is lost on the way. So after a refusal the rest of the body is read and thrown
//! away, within bounds: past them the connection is closed all the same.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody as _};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::EXPECT;
use axum::middleware::Next;
use axum::response::Response;
use futures::{Stream, StreamExt as _};

/// Most bytes that are read for nothing. A larger body is an upload whose sender can afford to hear it twice.
const MAX_BYTES: usize = 64 << 20;
/// Longest time spent on it.
const MAX_TIME: Duration = Duration::from_secs(10);

/// Passes the request on; if the answer is a refusal, reads the rest of the body before it is sent.
pub async fn read_away(request: Request, next: Next) -> Response {
    // A client that waits for the go-ahead has sent no body, and asking for it now would make it send one.
    if request.body().is_end_stream() || request.headers().contains_key(EXPECT) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let mut body = SharedBody(Arc::new(Mutex::new(body.into_data_stream())));
    let response = next.run(Request::from_parts(parts, Body::from_stream(body.clone()))).await;
    let status = response.status();
    // 408 says that the body did not come: its client has had its time.
    if (status.is_client_error() || status.is_server_error()) && status != StatusCode::REQUEST_TIMEOUT {
        let read = async {
            let mut left = MAX_BYTES;
            while let Some(Ok(bytes)) = body.next().await {
                left = left.saturating_sub(bytes.len());
                if left == 0 {
                    return;
                }
            }
        };
        // Past the time the answer is sent whether or not the client has finished.
        tokio::time::timeout(MAX_TIME, read).await.ok();
    }
    response
}

/// One body, read first by the handler and then, if need be, here.
#[derive(Clone)]
struct SharedBody(Arc<Mutex<BodyDataStream>>);

impl Stream for SharedBody {
    type Item = <BodyDataStream as Stream>::Item;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Held for one poll; handler and this module never read at the same time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).poll_next_unpin(context)
    }
}
