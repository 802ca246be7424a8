//! The HTTP answer to a call, whole or as a stream, in the shape of the API that it came by.

use axum::Json;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};

use super::collect::collect;
use super::shape::Shape;
use super::sse;
use crate::call::Call;
use crate::call::admit::Admission;
use crate::call::authorise::CalledModel;
use crate::error::ApiError;
use crate::limits::GatewayLimits;

/// Header with the digests of the adapters that answer; absent for the base model.
const ADAPTER_DIGEST_HEADER: HeaderName = HeaderName::from_static("x-souk-adapter-digest");

/// Answers a call. The admission lives as long as the answer.
pub(crate) async fn respond<S: Shape>(
    call: Call,
    shape: S,
    admission: Admission,
    limits: &GatewayLimits,
) -> Result<Response, ApiError> {
    let Call { model, prompts, replies, params } = call;
    let mut response = if params.stream {
        let replies = if params.constraint.is_some() { sse::begun(replies, limits).await? } else { replies };
        sse::stream(replies, shape, admission, limits)
    } else {
        let whole = collect(replies, prompts.len() * params.n as usize).await?;
        Json(shape.whole(whole)).into_response()
    };
    name_weights(&mut response, &model);
    Ok(response)
}

/// Says which weights answer.
fn name_weights(response: &mut Response, model: &CalledModel) {
    if !model.adapters.is_empty() {
        let digests: Vec<String> = model.adapters.iter().map(|(adapter, _)| adapter.digest.to_string()).collect();
        let digests = HeaderValue::from_str(&digests.join(", ")).expect("digests are hex digits");
        response.headers_mut().insert(ADAPTER_DIGEST_HEADER, digests);
    }
}
