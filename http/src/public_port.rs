//! The port that everybody may reach, where operators have one of their own.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;

/// Beside each request that came by a port which others than operators reach, where operators have one of their own.
/// What only operators may do is then refused, whatever key they present: a key that leaks is worth nothing from
/// outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByPublicPort;

/// Marks requests with [`ByPublicPort`].
pub async fn mark(mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(ByPublicPort);
    next.run(request).await
}
