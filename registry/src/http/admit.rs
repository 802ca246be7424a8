//! Lets requests in, one tenant beside the other; see [`crate::gates`].

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest as _, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use souk_http::serve::is_too_slow;
use souk_protocol::gate::Pass;
use souk_protocol::{Principal, Scope};

use super::middleware::JSON_BODY_BYTES;
use crate::Registry;
use crate::error::RegistryError;
use crate::gates::{Holder, UnderWay};

/// What a request holds until it is answered, wherever that is worked on.
pub(crate) type Held = Arc<(UnderWay, Option<Pass<Holder>>)>;

/// Middleware for all routes but uploads: takes a place among the requests under way, reads the body, and waits for the
/// tenant's turn at the database, so that a slow client keeps nobody from it. Operators pass by.
pub(crate) async fn admit(
    State(registry): State<Registry>,
    mut request: Request,
    next: Next,
) -> Result<Response, RegistryError> {
    let Some(principal) = request.extensions().get::<Principal>().cloned() else {
        let _under_way = registry.gates.begin_request(&None)?;
        return Ok(next.run(request).await);
    };
    if principal.may(Scope::Admin) {
        return Ok(next.run(request).await);
    }
    let under_way = registry.gates.begin_request(&Some(principal.tenant.clone()))?;
    let method = request.method().clone();
    if !matches!(method, Method::GET | Method::HEAD | Method::DELETE) {
        request = read_body(request).await?;
        registry.room.look().await?;
    }
    let is_read = matches!(method, Method::GET | Method::HEAD);
    let gates = &registry.gates;
    let turn = if is_read { gates.read(&principal).await? } else { gates.change(&principal).await? };
    let held: Held = Arc::new((under_way, turn));
    request.extensions_mut().insert(held.clone());
    let response = next.run(request).await;
    drop(held);
    Ok(response)
}

/// The same request with its body in memory.
async fn read_body(request: Request) -> Result<Request, RegistryError> {
    let (parts, body) = request.into_parts();
    let bytes = Bytes::from_request(Request::from_parts(parts.clone(), body), &()).await.map_err(unreadable)?;
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

/// Why a body could not be read.
pub(super) fn unreadable(rejection: BytesRejection) -> RegistryError {
    match rejection {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
            RegistryError::TooLarge { what: "the body".to_owned(), limit_bytes: JSON_BODY_BYTES as u64 }
        }
        rejection if is_too_slow(&rejection) => RegistryError::SlowBody,
        rejection => RegistryError::bad_request("unreadable_body", rejection.body_text()),
    }
}
