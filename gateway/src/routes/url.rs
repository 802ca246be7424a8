//! Paths and queries, whose refusals are this API's errors.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// The path's parameter.
pub(crate) struct PathOf(pub(crate) String);

/// The query's parameters.
pub(crate) struct QueryOf<T>(pub(crate) T);

impl<S: Send + Sync> FromRequestParts<S> for PathOf {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        // A path is refused only for percent-encoded bytes that are not UTF-8.
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(value)| Self(value)).map_err(|error| ApiError::UnreadableUrl(error.body_text()))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryOf<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(value)| Self(value)).map_err(|error| ApiError::UnreadableUrl(error.body_text()))
    }
}
