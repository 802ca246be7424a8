//! A panic is a bug of ours. It ends one request with an answer of the service's own shape, not with a broken
//! connection.

use std::any::Any;

use axum::response::Response;
use tower_http::catch_panic::{CatchPanicLayer, ResponseForPanic};

/// A layer that has `answer` say what callers hear; it is given what the panic said, for the log.
pub fn answer_panics(answer: fn(String) -> Response) -> CatchPanicLayer<AnswerPanic> {
    CatchPanicLayer::custom(AnswerPanic(answer))
}

/// See [`answer_panics`].
#[derive(Clone, Copy, Debug)]
pub struct AnswerPanic(fn(String) -> Response);

impl ResponseForPanic for AnswerPanic {
    type ResponseBody = axum::body::Body;

    fn response_for_panic(&mut self, payload: Box<dyn Any + Send + 'static>) -> Response {
        let message = match payload.downcast::<String>() {
            Ok(text) => *text,
            Err(payload) => (*payload.downcast_ref::<&str>().unwrap_or(&"a handler panicked")).to_owned(),
        };
        (self.0)(message)
    }
}
