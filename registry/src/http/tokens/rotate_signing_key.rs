use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::TokenKey;
use crate::Registry;
use crate::error::RegistryError;
use crate::http::{Caller, Problems};

/// Makes a new key that signs tokens from now on. Those that were signed before live on.
///
/// Scope: `admin`.
#[utoipa::path(
    post, path = "/auth/signing-keys", tag = "auth",
    responses((status = 201, description = "The new key's public half", body = TokenKey), Problems)
)]
pub(crate) async fn rotate_signing_key(
    State(registry): State<Registry>,
    caller: Caller,
) -> Result<(StatusCode, Json<TokenKey>), RegistryError> {
    let key = registry.rotate_signing_key(&caller.0).await?;
    Ok((StatusCode::CREATED, Json(key.into())))
}
