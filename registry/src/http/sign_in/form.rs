//! What pages are asked with: forms, queries, and the ends of links.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::page::Failed;
use crate::error::RegistryError;
use crate::http::admit::unreadable;
use crate::sign_in::ReturnTo;

/// The fields of a form.
pub(super) struct FormOf<T>(pub(super) T);

/// Where the person wants to go on; what leads elsewhere is left out.
pub(super) struct GoingOn(pub(super) Option<ReturnTo>);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for FormOf<T> {
    type Rejection = Failed;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failed> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if kind.split(';').next().map(str::trim) != Some("application/x-www-form-urlencoded") {
            return Err(RegistryError::UnsupportedMediaType("a form is expected".to_owned()).into());
        }
        let bytes = Bytes::from_request(request, state).await.map_err(unreadable)?;
        let fields = serde_urlencoded::from_bytes(&bytes);
        Ok(Self(fields.map_err(|error| {
            RegistryError::bad_request("invalid_body", format!("the form cannot be read: {error}"))
        })?))
    }
}

#[derive(Deserialize)]
struct WhereTo {
    return_to: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for GoingOn {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failed> {
        let query = Query::<WhereTo>::try_from_uri(&parts.uri).ok();
        Ok(Self(query.and_then(|Query(query)| ReturnTo::parse(&query.return_to?))))
    }
}
