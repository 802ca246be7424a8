//! Requests with an `Idempotency-Key`: each runs once, and who asks again is given the first answer, or told of the first request.
//!
//! A key is known to the port of repeats while its request runs and for a day after it, and to the rows of usage if the request was
//! charged. The rows are asked where the port knows nothing, since a store that lost its data takes nothing for new that was paid
//! for. What happens when: of several that come at once one runs; a request that fails before anything of it is charged is
//! forgotten and may run again; one whose gateway dies runs again too, since what a dead gateway answered is free.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use souk_http::idempotency::IDEMPOTENCY_REPLAYED;
use souk_limits::{KeptAnswer, RepeatKey, RepeatState};
use souk_protocol::{Digest, KeyId, LimitTree, RequestId, TenantId};

use crate::error::{ApiError, FIRST_REQUEST};
use crate::usage::Accounting;

/// What a request with an `Idempotency-Key` is known by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Repeatable {
    /// Route, caller's key and header together.
    pub(crate) key: RepeatKey,
    /// The body.
    pub(crate) fingerprint: Digest,
}

impl Repeatable {
    /// What a request is known by, if it has a key.
    pub(crate) fn of(operation: &str, caller: &KeyId, header: Option<&str>, fingerprint: Option<Digest>) -> Option<Self> {
        // Neither of the first two has a byte of zero.
        let named = [operation, caller.as_str(), header?].join("\0");
        Some(Self { key: RepeatKey(Digest::of(named.as_bytes())), fingerprint: fingerprint? })
    }
}

/// A request that runs under its key. Unless it is ended, dropping it forgets it.
pub(crate) struct Repeat {
    /// `None` once it is ended.
    running: Option<Running>,
}

struct Running {
    accounting: Accounting,
    tenant: TenantId,
    key: RepeatKey,
    request: RequestId,
    keeps_answer: bool,
}

/// What is known of a request with a key.
pub(crate) enum Begun {
    /// It runs now.
    First(Repeat),
    /// It was answered, and this is the answer.
    Answered(Response),
}

/// Begins a request under its key.
///
/// # Errors
/// If it runs already, has run, or is another; if that cannot be told.
pub(crate) async fn begin(
    accounting: &Accounting,
    tree: &LimitTree,
    tenant: &TenantId,
    request: &RequestId,
    repeatable: Repeatable,
) -> Result<Begun, ApiError> {
    let Repeatable { key, fingerprint } = repeatable;
    let state = accounting.repeats().begin(tenant, key, fingerprint, request).await;
    match state.map_err(|error| ApiError::Unavailable(error.into()))? {
        RepeatState::First => {}
        RepeatState::Running(first) => return Err(ApiError::RepeatRuns(first)),
        RepeatState::Ended { request: first, answer: Some(answer) } => return Ok(Begun::Answered(given_again(&first, answer))),
        RepeatState::Ended { request: first, answer: None } => return Err(ApiError::RepeatNotKept(first)),
        RepeatState::Mismatch => return Err(ApiError::RepeatDiffers),
    }
    accounting.running_repeats().add(tenant, key, request);
    let running = Running {
        accounting: accounting.clone(),
        tenant: tenant.clone(),
        key,
        request: request.clone(),
        keeps_answer: tree.keeps_answers,
    };
    let repeat = Repeat { running: Some(running) };
    // What is settled is with the writer before it is in the database, so in this order nothing is missed between the two.
    if let Some(first) = accounting.writer().repeated(tenant, key.0) {
        return Err(ApiError::RepeatNotKept(first));
    }
    let charged = accounting.store().repeated(tenant, key.0).await;
    match charged.map_err(|error| ApiError::Unavailable(error.into()))? {
        Some(first) => Err(ApiError::RepeatNotKept(first)),
        None => Ok(Begun::First(repeat)),
    }
}

/// The first answer, byte for byte.
fn given_again(first: &RequestId, answer: KeptAnswer) -> Response {
    let KeptAnswer { content_type, body, headers } = answer;
    let mut response = Response::new(Body::from(body));
    let kept = headers.into_iter().filter_map(|(name, value)| {
        Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
    });
    response.headers_mut().extend(kept);
    if let Ok(content_type) = HeaderValue::try_from(content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    if let Ok(first) = HeaderValue::try_from(first.as_str()) {
        response.headers_mut().insert(FIRST_REQUEST, first);
    }
    response
}

impl Repeat {
    /// The digest that its repeats have in common.
    pub(crate) fn digest(&self) -> Option<Digest> {
        self.running.as_ref().map(|running| running.key.0)
    }

    pub(crate) fn keeps_answer(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.keeps_answer)
    }

    /// The request was charged; its answer is given again if it is known.
    pub(crate) async fn end(mut self, answer: Option<KeptAnswer>) {
        let Some(Running { accounting, tenant, key, request, .. }) = self.running.take() else { return };
        accounting.running_repeats().remove(&key);
        // Should it not be heard, the row says that the request was charged.
        if let Err(error) = accounting.repeats().end(&tenant, key, &request, answer).await {
            tracing::warn!(%error, %request, "the key of a request that has ended cannot be kept");
        }
    }

    /// Nothing of the request was charged; it may run again.
    pub(crate) async fn forget(mut self) {
        if let Some(running) = self.running.take() {
            running.forget().await;
        }
    }
}

impl Drop for Repeat {
    fn drop(&mut self) {
        if let (Some(running), Ok(runtime)) = (self.running.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(running.forget());
        }
    }
}

impl Running {
    async fn forget(self) {
        let Self { accounting, tenant, key, request, .. } = self;
        accounting.running_repeats().remove(&key);
        // Should it not be heard, the key's lease ends.
        if let Err(error) = accounting.repeats().forget(&tenant, key, &request).await {
            tracing::warn!(%error, %request, "the key of a request that was not charged cannot be forgotten");
        }
    }
}
