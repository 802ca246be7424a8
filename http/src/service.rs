//! What the crust must know of the service that it lies around.

use axum::response::Response;
use metrics::{Unit, describe_counter, describe_histogram};

/// A service as its log and its figures name it, and how it answers a bug of its own.
#[derive(Debug)]
pub struct Service {
    /// In each line of the log, for example `gateway`.
    pub name: &'static str,
    /// The counter of its answers, with the labels `route`, `method` and `status`.
    pub requests: &'static str,
    /// The histogram of the time from a request's arrival to the end of its answer, with the label `route`.
    pub request_seconds: &'static str,
    /// The answer where a handler panicked, in the service's own shape. It is given what the panic said, for the log:
    /// the caller must not see it.
    pub answer_panic: fn(String) -> Response,
}

impl Service {
    /// Says what the service's figures mean.
    pub(crate) fn describe(&self) {
        describe_counter!(
            self.requests,
            "Requests answered, by route, method and status; 499 where the client left before the answer."
        );
        describe_histogram!(
            self.request_seconds,
            Unit::Seconds,
            "Time from arrival to the end of the answer, streams included, by route."
        );
    }
}
