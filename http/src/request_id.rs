//! `x-request-id`: what a caller quotes, the log shows and usage is booked under. It is made here and never taken from
//! the request, so that no two requests share one.

use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use souk_protocol::RequestId;

/// The header that every answer carries.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Shows the id on the answer.
pub fn show(response: &mut Response, id: &RequestId) {
    let id = HeaderValue::from_str(id.as_str()).expect("an id is letters, digits and an underscore");
    response.headers_mut().insert(X_REQUEST_ID, id);
}
