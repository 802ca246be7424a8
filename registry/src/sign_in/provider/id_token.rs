//! What a provider's token says of who somebody is, and whether it can be believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256, Sha512};
use souk_protocol::wall_clock;
use subtle::ConstantTimeEq as _;

use crate::db::persons::Known;
use crate::people::Email;

/// By how much the provider's clock may differ.
const LEEWAY_S: u64 = 60;
/// Longest subject that OpenID Connect allows.
const MAX_SUBJECT_CHARS: usize = 255;
/// Longest name that is kept.
const MAX_NAME_CHARS: usize = 200;

/// What the token must say.
#[derive(Clone, Copy)]
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    /// The one that came with it.
    pub(super) access_token: &'a str,
}

/// Who somebody is to a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) subject: String,
    pub(super) known: Known,
}

/// What else a provider says, with an access token.
#[derive(Debug, Deserialize)]
pub(super) struct UserInfo {
    sub: String,
    #[serde(flatten)]
    said: Said,
}

/// What is said of a person.
#[derive(Debug, Default, Deserialize)]
struct Said {
    name: Option<Value>,
    email: Option<Value>,
    email_verified: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    aud: Audience,
    iat: u64,
    nonce: Option<String>,
    azp: Option<String>,
    at_hash: Option<String>,
    #[serde(flatten)]
    said: Said,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum IdTokenError {
    /// It is signed with a key that the provider has not published, or had not.
    #[error("its token is signed with an unknown key")]
    UnknownKey,
    /// It is signed in a way that its key is not for, or not at all.
    #[error("its token is not signed as its key asks for")]
    Algorithm,
    /// Its time is over.
    #[error("its token has expired")]
    Expired,
    /// Another issuer's, for somebody else, without what it must have, or with a wrong signature.
    #[error("its token is not valid")]
    Invalid,
    /// It was made for another sign-in.
    #[error("its token was made for another sign-in")]
    Nonce,
    /// It was made for another client of the provider.
    #[error("its token was made for somebody else")]
    Party,
    /// It does not belong to the access token that came with it.
    #[error("its tokens do not belong together")]
    Pair,
}

/// Who a token is about, if it is the issuer's, for us, of this sign-in and of now. `keys` are those that the issuer has
/// published; the kind of the key decides how the token has to be signed, whatever it says of itself.
pub(super) fn verify(token: &str, keys: &[Jwk], expected: Expected<'_>) -> Result<Identity, IdTokenError> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| IdTokenError::Algorithm)?;
    let of_name = |key: &&Jwk| header.kid.is_none() || key.common.key_id == header.kid;
    let mut usable = keys.iter().filter(of_name).filter_map(|key| Some((key, algorithm_of(key)?)));
    let (key, algorithm) = usable.next().ok_or(IdTokenError::UnknownKey)?;
    if usable.next().is_some() {
        // Which one is meant would be a guess.
        return Err(IdTokenError::UnknownKey);
    }
    if header.alg != algorithm {
        return Err(IdTokenError::Algorithm);
    }
    let mut validation = Validation::new(algorithm);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.set_issuer(&[expected.issuer]);
    validation.set_audience(&[expected.client_id]);
    validation.validate_nbf = true;
    validation.leeway = LEEWAY_S;
    let key = DecodingKey::from_jwk(key).map_err(|_| IdTokenError::UnknownKey)?;
    let decoded = jsonwebtoken::decode::<Claims>(token, &key, &validation);
    let claims = decoded.map_err(|error| match error.kind() {
        ErrorKind::ExpiredSignature => IdTokenError::Expired,
        _ => IdTokenError::Invalid,
    })?;
    check(claims.claims, algorithm, expected)
}

/// What is left to look at once the signature is right.
fn check(claims: Claims, algorithm: Algorithm, expected: Expected<'_>) -> Result<Identity, IdTokenError> {
    let is_same = |given: &str, expected: &str| bool::from(given.as_bytes().ct_eq(expected.as_bytes()));
    if !claims.nonce.is_some_and(|nonce| is_same(&nonce, expected.nonce)) {
        return Err(IdTokenError::Nonce);
    }
    let for_several = matches!(&claims.aud, Audience::Many(parties) if parties.len() > 1);
    match &claims.azp {
        Some(party) if party != expected.client_id => return Err(IdTokenError::Party),
        None if for_several => return Err(IdTokenError::Party),
        _ => {}
    }
    if matches!(&claims.aud, Audience::One(party) if party != expected.client_id) {
        return Err(IdTokenError::Party);
    }
    if claims.iat > wall_clock::since_epoch().as_secs() + LEEWAY_S {
        return Err(IdTokenError::Invalid);
    }
    if claims.at_hash.is_some_and(|hash| !is_same(&hash, &half_hash(expected.access_token, algorithm))) {
        return Err(IdTokenError::Pair);
    }
    if !(1..=MAX_SUBJECT_CHARS).contains(&claims.sub.chars().count()) || claims.sub.contains('\0') {
        return Err(IdTokenError::Invalid);
    }
    Ok(Identity { subject: claims.sub, known: claims.said.known() })
}

/// How a key signs: one way for each kind, none for those that are not known or are for something else.
fn algorithm_of(key: &Jwk) -> Option<Algorithm> {
    let (algorithm, named) = match &key.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(of) if of.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(of) if of.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    let is_for_signing = key.common.public_key_use.as_ref().is_none_or(|what| *what == PublicKeyUse::Signature);
    let is_as_named = key.common.key_algorithm.is_none_or(|name| name == named);
    (is_for_signing && is_as_named).then_some(algorithm)
}

/// The left half of the hash that goes with the signature, in base64url.
fn half_hash(access_token: &str, algorithm: Algorithm) -> String {
    match algorithm {
        Algorithm::EdDSA => URL_SAFE_NO_PAD.encode(&Sha512::digest(access_token)[..32]),
        _ => URL_SAFE_NO_PAD.encode(&Sha256::digest(access_token)[..16]),
    }
}

impl Identity {
    /// The same with what the provider says elsewhere, if that is about the same person.
    pub(super) fn with(mut self, info: UserInfo) -> Result<Self, IdTokenError> {
        if info.sub != self.subject {
            return Err(IdTokenError::Pair);
        }
        let said = info.said.known();
        self.known.name = self.known.name.or(said.name);
        (self.known.email, self.known.email_is_verified) = (said.email, said.email_is_verified);
        Ok(self)
    }
}

impl Said {
    /// What is kept of it. An address that cannot be one is none.
    fn known(self) -> Known {
        let text = |value: Option<Value>| value.and_then(|value| value.as_str().map(str::to_owned));
        let name = text(self.name).map(|name| {
            let plain = name.chars().filter(|character| !character.is_control());
            plain.take(MAX_NAME_CHARS).collect::<String>().trim().to_owned()
        });
        let email = text(self.email).and_then(|email| Email::parse(&email).ok()).map(|email| email.to_string());
        // Some write it as a text.
        let is_verified =
            matches!(&self.email_verified, Some(Value::Bool(true))) || self.email_verified == Some("true".into());
        Known { name: name.filter(|name| !name.is_empty()), email_is_verified: is_verified && email.is_some(), email }
    }
}

#[cfg(test)]
mod tests;
