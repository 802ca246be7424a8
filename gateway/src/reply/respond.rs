//! The HTTP answer to a call, whole or as a stream, in the shape of the API that it came by.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use souk_limits::KeptAnswer;
use souk_limits::repeats::MAX_ANSWER_BYTES;

use super::collect::collect;
use super::shape::Shape;
use super::sse;
use crate::call::Call;
use crate::call::admit::Admission;
use crate::call::authorise::CalledModel;
use crate::call::reservation::Reservation;
use crate::error::ApiError;
use crate::limits::GatewayLimits;

/// Header with the digests of the adapters that answer; absent for the base model.
const ADAPTER_DIGEST_HEADER: HeaderName = HeaderName::from_static("x-souk-adapter-digest");

/// The content type of a whole answer.
const JSON: &str = "application/json";

/// Answers a call. The admission lives as long as the answer.
pub(crate) async fn respond<S: Shape>(
    call: Call,
    shape: S,
    admission: Admission,
    limits: &GatewayLimits,
) -> Result<Response, ApiError> {
    let Call { model, prompts, replies, params, is_hooked, reservation } = call;
    let mut response = if params.stream {
        // A stream is never kept, so its jobs alone say when it is over.
        drop(reservation);
        let may_fail_at_once = is_hooked || params.constraint.is_some();
        let replies = if may_fail_at_once { sse::begun(replies, limits).await? } else { replies };
        sse::stream(replies, shape, admission, limits)
    } else {
        let whole = collect(replies, prompts.len() * params.n as usize).await?;
        let body = serde_json::to_vec(&shape.whole(whole)).map_err(ApiError::internal)?;
        reservation.inspect(|reservation| keep(reservation, &body, &model));
        ([(header::CONTENT_TYPE, JSON)], body).into_response()
    };
    if let Some(digests) = digests_of(&model) {
        let digests = HeaderValue::try_from(digests).expect("digests are hex digits");
        response.headers_mut().insert(ADAPTER_DIGEST_HEADER, digests);
    }
    Ok(response)
}

/// Keeps a whole answer where it may be given again.
fn keep(reservation: &Reservation, body: &[u8], model: &CalledModel) {
    if reservation.keeps_answer() && body.len() <= MAX_ANSWER_BYTES {
        let digests = digests_of(model).map(|digests| (ADAPTER_DIGEST_HEADER.as_str().to_owned(), digests));
        let headers = digests.into_iter().collect();
        reservation.keep(KeptAnswer { content_type: JSON.to_owned(), body: body.to_vec(), headers });
    }
}

/// Which weights answer, beside the base model's.
fn digests_of(model: &CalledModel) -> Option<String> {
    let digests: Vec<String> = model.adapters.iter().map(|(adapter, _)| adapter.digest.to_string()).collect();
    (!digests.is_empty()).then(|| digests.join(", "))
}
