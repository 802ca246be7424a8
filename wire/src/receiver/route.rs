//! The route that nodes dial.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{Extensions, HeaderMap};
use axum::middleware::from_fn;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use futures::StreamExt as _;
use souk_http::serve::LeastRate;
use souk_http::{bearer, client_certificate};

use super::accept::Receiver;
use super::refused::Refused;
use crate::metrics;

/// The path, below a gateway's address.
pub const PATH: &str = "/internal/v1/events";

impl Receiver {
    /// The route, for the port that nodes reach (`gateway.advertise`). Where that asks for certificates, nodes need one.
    pub fn router(&self) -> Router {
        let route = Router::new().route(PATH, post(take_events)).layer(DefaultBodyLimit::disable());
        route.layer(from_fn(client_certificate::require)).with_state(self.clone())
    }
}

/// A stream either way: the request's body for as long as the answer's.
async fn take_events(
    State(receiver): State<Receiver>,
    headers: HeaderMap,
    extensions: Extensions,
    body: Body,
) -> Response {
    match open(&receiver, &headers, &extensions, body).await {
        Ok(frames) => {
            let headers = [(CONTENT_TYPE, "application/octet-stream"), (CACHE_CONTROL, "no-store")];
            (headers, frames).into_response()
        }
        Err(refused) => {
            metrics::refused(refused.reason());
            tracing::warn!("a node's stream is refused: {refused}");
            refused.into_response()
        }
    }
}

async fn open(receiver: &Receiver, headers: &HeaderMap, rates: &Extensions, body: Body) -> Result<Body, Refused> {
    let token = bearer::token(headers).map_err(|error| Refused::Token(error.to_string()))?;
    let service = receiver.shared.verify.verify(token).await.map_err(Refused::Token)?;
    // A stream that says little proves in its own way that somebody is there.
    if let Some(rate) = rates.get::<LeastRate>() {
        rate.waive();
    }
    let pieces = body.into_data_stream().map(|piece| piece.map_err(|error| error.to_string()));
    let frames = receiver.accept(pieces.boxed()).await?;
    tracing::debug!(service, "a node's stream is open");
    Ok(Body::from_stream(frames.map(Ok::<Bytes, std::convert::Infallible>)))
}
