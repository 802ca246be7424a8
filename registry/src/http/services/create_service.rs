use axum::Json;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use souk_protocol::ServiceKind;
use utoipa::ToSchema;

use super::{Service, ServiceKindName};
use crate::error::RegistryError;
use crate::http::{Body, Caller, IdempotencyKey, Problems, Serving};
use crate::idempotency::Once;

/// A service that is to get a key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateService {
    /// 1 to 64 of a-z, 0-9, `-`, `_`, `.`, beginning with a letter or digit.
    #[schema(example = "gateway-1")]
    name: String,
    /// What it is, which says what it may ask.
    #[serde(default = "gateway")]
    #[schema(value_type = ServiceKindName, default = "gateway")]
    kind: ServiceKind,
}

const fn gateway() -> ServiceKind {
    ServiceKind::Gateway
}

/// A new key of a service.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedService {
    /// The key itself. This is the only time that it is shown; absent from an answer that is repeated for an
    /// `Idempotency-Key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// What is kept of it.
    #[serde(flatten)]
    service: Service,
}

/// Makes a key for a service of the installation, a gateway or a node that runs apart, and shows it, once. It opens none of
/// these routes: the service exchanges it for tokens with which it calls other services.
///
/// Scope: `admin`.
#[utoipa::path(
    post, path = "/services", tag = "services",
    params(IdempotencyKey),
    request_body = CreateService,
    responses((status = 201, description = "The key, to be kept by the service alone", body = CreatedService), Problems)
)]
pub(crate) async fn create_service(
    Serving(registry): Serving,
    caller: Caller,
    once: Once,
    Body(request): Body<CreateService>,
) -> Result<(StatusCode, Json<CreatedService>), RegistryError> {
    // The answer that is kept has no secret.
    let kept = |row| CreatedService { secret: None, service: Service::from(row) };
    let (row, key) = registry.create_service(&caller.0, &request.name, request.kind, &once, kept).await?;
    Ok((StatusCode::CREATED, Json(CreatedService { secret: Some(key.expose().to_owned()), service: row.into() })))
}
