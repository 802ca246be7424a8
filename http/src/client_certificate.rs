//! Certificates of the installation's services, where the operators' port asks for them (`server.tls.client_ca`).

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::problem::Problem;

/// Beside each request that came by a port whose clients are asked for a certificate. One that is not of the authorities of the
/// settings ends the connection before any request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// The client has one.
    Shown,
    /// It has none, as operators and whoever reads figures.
    Missing,
}

/// Refuses who was asked for a certificate and has none. For routes that only services of the installation call, beside the
/// token that says which one it is; a port that asks nobody lets all through.
pub async fn require(request: Request, next: Next) -> Response {
    if request.extensions().get() == Some(&ClientCertificate::Missing) {
        let path = request.uri().path();
        let detail = format!(
            "{path} takes services that show a certificate of the authorities in server.tls.client_ca; none was shown \
             (wire.client_cert, node.registries_client_cert and gateway.registries_client_cert name one)"
        );
        tracing::warn!(path, "A service without a certificate is refused: its settings name none");
        return Problem::new(StatusCode::FORBIDDEN, "client_certificate_missing", detail).into_response();
    }
    next.run(request).await
}
