use std::convert::Infallible;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use futures::stream;
use serde::Deserialize;
use souk_protocol::internal::Line;

use crate::Registry;
use crate::error::RegistryError;
use crate::http::QueryOf;
use crate::tokens::CallingService;
use crate::withdrawal_lines::WithdrawalLines;

/// Where the stream goes on.
#[derive(Debug, Deserialize)]
pub(super) struct Query {
    /// The number that was heard last; absent to begin anew.
    after: Option<i64>,
}

/// The stream, which ends with the registry or its listener.
pub(super) async fn withdrawals(
    State(registry): State<Registry>,
    Extension(service): Extension<CallingService>,
    QueryOf(query): QueryOf<Query>,
) -> Result<Response, RegistryError> {
    let lines = WithdrawalLines::new(registry, service.id, query.after);
    let bytes = stream::unfold(lines, |mut lines| async move {
        let told = lines.next().await?;
        Some((Ok::<_, Infallible>(written(&told)), lines))
    });
    let headers = [(CONTENT_TYPE, "application/x-ndjson"), (CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(bytes)).into_response())
}

/// Lines of JSON.
fn written(lines: &[Line]) -> Bytes {
    let mut text = Vec::with_capacity(lines.len() * 64);
    for line in lines {
        serde_json::to_writer(&mut text, line).expect("it is a line");
        text.push(b'\n');
    }
    text.into()
}
