//! Tokens that a key is exchanged for.

mod exchange_token;
mod list_token_keys;
mod rotate_signing_key;

use serde::Serialize;
use utoipa::ToSchema;

use crate::tokens;

pub(crate) use exchange_token::*;
pub(crate) use list_token_keys::*;
pub(crate) use rotate_signing_key::*;

/// A public key that verifies tokens: a JSON Web Key (RFC 7517, RFC 8037).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenKey {
    /// `OKP`.
    #[schema(example = "OKP")]
    kty: &'static str,
    /// `Ed25519`.
    #[schema(example = "Ed25519")]
    crv: &'static str,
    /// `EdDSA`.
    #[schema(example = "EdDSA")]
    alg: &'static str,
    /// `sig`.
    #[serde(rename = "use")]
    #[schema(example = "sig")]
    usage: &'static str,
    /// Its name in the head of tokens.
    kid: String,
    /// The 32 bytes of the key, in base64url.
    x: String,
}

impl From<tokens::TokenKey> for TokenKey {
    fn from(key: tokens::TokenKey) -> Self {
        Self { kty: "OKP", crv: "Ed25519", alg: "EdDSA", usage: "sig", kid: key.kid, x: key.x }
    }
}
