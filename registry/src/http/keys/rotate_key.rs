use axum::Json;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{CreatedKey, Key, KeyPath};
use crate::db::moment;
use crate::error::RegistryError;
use crate::http::{Body, Caller, IdempotencyKey, PathOf, Problems, Serving};
use crate::idempotency::Once;
use crate::keys::{Rotated, Rotation};

/// How a key is to be rotated.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateKey {
    /// Seconds that the old key works beside the new one: 900 to the setting `registry.key_overlap_s`, a day unless it was
    /// changed, which is meant if this is absent. 0 revokes the old key at once.
    overlap_s: Option<u64>,
    /// When the new key stops working by itself (RFC 3339), within what `POST /keys` allows; absent for when the old one
    /// would have.
    #[serde(default, with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
}

/// A key that took another's place.
#[derive(Serialize, ToSchema)]
pub(crate) struct RotatedKey {
    /// The new key.
    #[serde(flatten)]
    created: CreatedKey,
    /// The id of the old one.
    replaces: String,
    /// When the old one ends.
    #[serde(with = "time::serde::rfc3339")]
    old_ends_at: OffsetDateTime,
}

/// Makes a key with the same rights in the place of one, which ends when the overlap is over, and shows it, once.
///
/// Scope: `keys:manage`; a person rotates their own keys without it, and nobody else does. The caller's key must have what
/// the old one has. A key that was rotated already answers 409 `already_rotated`, also to the second of two who try at once;
/// one that is over 409 `key_over`. Keys that were made with the old one stay.
#[utoipa::path(
    post, path = "/keys/{id}/rotate", tag = "keys",
    params(KeyPath, IdempotencyKey),
    request_body = RotateKey,
    responses((status = 201, description = "The new key", body = RotatedKey), Problems)
)]
pub(crate) async fn rotate_key(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<KeyPath>,
    once: Once,
    Body(request): Body<RotateKey>,
) -> Result<(StatusCode, Json<RotatedKey>), RegistryError> {
    let RotateKey { overlap_s, expires_at } = request;
    let rotation = Rotation { overlap_s, expires_at };
    // The answer that is kept has no secret.
    let kept = |rotated| answer(rotated, None);
    let (rotated, secret) = registry.rotate_key(&caller.0, &path.id, rotation, &once, kept).await?;
    Ok((StatusCode::CREATED, Json(answer(rotated, Some(secret.expose().to_owned())))))
}

fn answer(rotated: Rotated, secret: Option<String>) -> RotatedKey {
    let old_ends_at = moment(rotated.old_ends_at_ms);
    RotatedKey { created: CreatedKey { secret, key: Key::from(rotated.new) }, replaces: rotated.old, old_ends_at }
}
