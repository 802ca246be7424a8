//! What is seen of every request: its id, its line in the log, its place in the figures.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use metrics::{counter, histogram};
use souk_protocol::RequestId;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::request_id;
use crate::service::Service;

/// The status of a request whose client left before there was an answer, as web servers count it.
const CLIENT_GONE: &str = "499";

/// Gives the request an id, which its handler finds beside it and its answer shows, and counts and measures it.
pub(crate) async fn observe(State(service): State<&'static Service>, mut request: Request, next: Next) -> Response {
    let id = RequestId::new();
    let method = method_label(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", |path| path.as_str()).to_owned();
    let span = tracing::info_span!("request", service = service.name, request.id = %id, method, route);
    request.extensions_mut().insert(id.clone());
    let mut watch = Watch { service, route, method, started: Instant::now(), is_counted: false };
    let mut response = next.run(request).instrument(span.clone()).await;
    let status = response.status();
    watch.count(status.as_str());
    span.in_scope(|| {
        let elapsed_ms = watch.started.elapsed().as_millis() as u64;
        tracing::debug!(status = status.as_u16(), elapsed_ms, "answered");
    });
    request_id::show(&mut response, &id);
    response.map(|body| Body::new(Watched { body, _watch: watch }))
}

/// Measures a request until it is dropped: with the answer's body, or with the request when the client leaves before.
struct Watch {
    service: &'static Service,
    route: String,
    method: &'static str,
    started: Instant,
    is_counted: bool,
}

impl Watch {
    fn count(&mut self, status: &str) {
        let labels = [("route", self.route.clone()), ("method", self.method.to_owned()), ("status", status.to_owned())];
        counter!(self.service.requests, &labels).increment(1);
        self.is_counted = true;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.is_counted {
            self.count(CLIENT_GONE);
        }
        histogram!(self.service.request_seconds, "route" => self.route.clone()).record(self.started.elapsed());
    }
}

/// An answer's body, whose end is the request's.
struct Watched {
    body: Body,
    _watch: Watch,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// A method as a label: clients may make up others.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
