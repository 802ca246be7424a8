//! axum's extractors with rejections that are problems.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::admit::unreadable;
use crate::error::RegistryError;

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

/// The path's parameters.
pub(crate) struct PathOf<T>(pub(crate) T);

/// The query's parameters.
pub(crate) struct QueryOf<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = RegistryError;

    async fn from_request(request: Request, state: &S) -> Result<Self, RegistryError> {
        let Json(value) = Json::<T>::from_request(request, state).await.map_err(|rejection| match rejection {
            JsonRejection::JsonSyntaxError(error) => RegistryError::bad_request("malformed_json", error.body_text()),
            JsonRejection::JsonDataError(error) => RegistryError::bad_request("invalid_body", error.body_text()),
            JsonRejection::MissingJsonContentType(error) => RegistryError::UnsupportedMediaType(error.body_text()),
            JsonRejection::BytesRejection(rejection) => unreadable(rejection),
            other => RegistryError::bad_request("unreadable_body", other.body_text()),
        })?;
        Ok(Self(value))
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for PathOf<T> {
    type Rejection = RegistryError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, RegistryError> {
        // A path is refused only for percent-encoded bytes that are not UTF-8.
        let path = Path::<T>::from_request_parts(parts, state).await;
        let Path(value) = path.map_err(|error| RegistryError::bad_request("invalid_path", error.body_text()))?;
        Ok(Self(value))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryOf<T> {
    type Rejection = RegistryError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, RegistryError> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        let Query(value) = query.map_err(|error| RegistryError::bad_request("invalid_query", error.body_text()))?;
        Ok(Self(value))
    }
}
