//! Tokens: what a key is exchanged for, so that a service can tell who calls without asking anybody.
//!
//! A token is a JSON Web Token (RFC 7519) signed with Ed25519 (RFC 8037). One algorithm is accepted, whatever the token
//! says of itself, and the key is one that the issuer has published under the token's `kid`. `exp`, `nbf`, `iss`, `aud`
//! and `sub` have to be there and to be right. What it grants was the issuer's to decide; that the key was revoked since
//! is for the verifier's owner to know.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use souk_protocol::{AllowedModels, Digest, KeyId, PersonId, Principal, Scope, ServiceKind, TenantId};

/// The longest life of a token: as long, revocations are remembered.
pub const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// By how much the clocks of two services may differ.
pub const LEEWAY: Duration = Duration::from_secs(10);
/// Whom a token of a tenant is for: the APIs of the installation.
pub const API: &str = "souk:api";
/// Whom a service's token is for: other services of the installation.
pub const SERVICES: &str = "souk:services";
/// Whom a grant of files is for: the registries that have them.
pub const FILES: &str = "souk:files";

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who issued it: the installation.
    pub iss: String,
    /// Whom it is for.
    pub aud: String,
    /// The tenant's id.
    pub sub: String,
    /// Seconds since the Unix epoch from which on it counts no more.
    pub exp: u64,
    /// Seconds since the Unix epoch before which it does not count.
    pub nbf: u64,
    /// When it was issued.
    pub iat: u64,
    /// Tells it from every other.
    pub jti: String,
    /// The id of the key or session that it was made with.
    pub key: String,
    /// Whose key or session that is; absent for a service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// Which models it is for; absent for all that the tenant may call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<AllowedModels>,
    /// The tenant's name.
    pub tenant: String,
    /// Names of scopes with spaces between, as in RFC 8693.
    pub scope: String,
}

/// What a service's token says: claims of their own, so that neither kind of token can pass for the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceClaims {
    /// Who issued it: the installation.
    pub iss: String,
    /// Whom it is for: [`SERVICES`].
    pub aud: String,
    /// The id of the key that the service has.
    pub sub: String,
    /// Seconds since the Unix epoch from which on it counts no more.
    pub exp: u64,
    /// Seconds since the Unix epoch before which it does not count.
    pub nbf: u64,
    /// When it was issued.
    pub iat: u64,
    /// Tells it from every other.
    pub jti: String,
    /// The service's name.
    pub service: String,
    /// What it is, by name; absent from what older registries sign, which know gateways alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

impl ServiceClaims {
    /// What the service is; `None`: something of later, which may nothing here.
    #[must_use]
    pub fn kind(&self) -> Option<ServiceKind> {
        self.kind.as_deref().map_or(Some(ServiceKind::Gateway), |name| name.parse().ok())
    }
}

/// What a grant of files says: claims of their own too. It names no service, since the gateway that has it does not know
/// which node will take its job; who presents it shows a token of its own beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileClaims {
    /// Who issued it: the installation.
    pub iss: String,
    /// Whom it is for: [`FILES`].
    pub aud: String,
    /// The digest of the version whose files it is for.
    pub sub: Digest,
    /// Seconds since the Unix epoch from which on it counts no more.
    pub exp: u64,
    /// Seconds since the Unix epoch before which it does not count.
    pub nbf: u64,
}

/// Verifies tokens of one issuer for one audience.
pub struct Verifier {
    validation: Validation,
    keys: HashMap<String, DecodingKey>,
}

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is signed with a key that is not known: unknown to the issuer, or newer than what is known of it.
    #[error("the token is signed with an unknown key")]
    UnknownKey,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Whatever else: the reasons are not told apart.
    #[error("the token is not valid")]
    Invalid,
}

/// Whether what a caller presents is meant as a token: a header in JSON comes first, in base64.
#[must_use]
pub fn is_token(presented: &str) -> bool {
    presented.starts_with("eyJ")
}

impl Claims {
    /// Whom the token stands for. A scope that this program does not know grants nothing: a newer one may have written it.
    #[must_use]
    pub fn principal(self) -> Principal {
        Principal {
            tenant: TenantId::from_stored(self.sub),
            tenant_name: self.tenant,
            key: KeyId::from_stored(self.key),
            person: self.person.map(PersonId::from_stored),
            models: self.models,
            scopes: self.scope.split_whitespace().filter_map(|name| name.parse::<Scope>().ok()).collect(),
        }
    }
}

impl Verifier {
    /// Accepts what `issuer` signed for `audience`, with the public keys that it has published: `kid` and the 32 bytes
    /// of the key in base64url.
    #[must_use]
    pub fn new(issuer: &str, audience: &str, keys: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY.as_secs();
        let known = |(kid, x): (String, String)| Some((kid, DecodingKey::from_ed_components(&x).ok()?));
        Self { validation, keys: keys.into_iter().filter_map(known).collect() }
    }

    /// What a tenant's token says, if it is one of the issuer's and its time is not over.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        self.read(token)
    }

    /// What a service's token says, likewise.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify_service(&self, token: &str) -> Result<ServiceClaims, TokenError> {
        self.read(token)
    }

    /// What a grant of files says, likewise.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify_files(&self, grant: &str) -> Result<FileClaims, TokenError> {
        self.read(grant)
    }

    fn read<C: DeserializeOwned + Clone>(&self, token: &str) -> Result<C, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
        let kid = header.kid.ok_or(TokenError::Invalid)?;
        let key = self.keys.get(&kid).ok_or(TokenError::UnknownKey)?;
        let decoded = jsonwebtoken::decode::<C>(token, key, &self.validation);
        let claims = decoded.map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => TokenError::Expired,
            _ => TokenError::Invalid,
        })?;
        Ok(claims.claims)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("keys", &self.keys.keys()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use souk_protocol::wall_clock;

    use super::*;

    const ISSUER: &str = "souk:here";

    struct Issuer {
        signing: EncodingKey,
        public: Vec<u8>,
    }

    impl Issuer {
        fn new() -> Self {
            let pair = Ed25519KeyPair::generate().unwrap();
            let pkcs8 = pair.to_pkcs8v1().unwrap();
            Self { signing: EncodingKey::from_ed_der(pkcs8.as_ref()), public: pair.public_key().as_ref().to_vec() }
        }

        fn verifier(&self) -> Verifier {
            Verifier::new(ISSUER, API, [("k1".to_owned(), URL_SAFE_NO_PAD.encode(&self.public))])
        }

        fn sign(&self, claims: &Value) -> String {
            encode(&header("k1"), claims, &self.signing).unwrap()
        }
    }

    fn header(kid: &str) -> Header {
        Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::EdDSA) }
    }

    fn now() -> u64 {
        wall_clock::since_epoch().as_secs()
    }

    fn claims() -> Value {
        json!({
            "iss": ISSUER, "aud": API, "sub": "ten_1", "exp": now() + 900, "nbf": now(), "iat": now(), "jti": "1",
            "key": "abc", "tenant": "acme", "scope": "inference adapters:read of:later",
        })
    }

    fn with(field: &str, value: Value) -> Value {
        let mut claims = claims();
        claims[field] = value;
        claims
    }

    #[test]
    fn a_token_says_who_calls_and_what_they_may_do() {
        let issuer = Issuer::new();
        let token = issuer.sign(&claims());
        assert!(is_token(&token));
        let principal = issuer.verifier().verify(&token).unwrap().principal();
        assert_eq!((principal.tenant.as_str(), principal.tenant_name.as_str()), ("ten_1", "acme"));
        assert_eq!(principal.scopes.into_iter().collect::<Vec<_>>(), [Scope::Inference, Scope::AdaptersRead]);
    }

    #[test]
    fn every_claim_that_has_to_be_there_is_missed_and_a_wrong_one_is_refused() {
        let issuer = Issuer::new();
        for field in ["exp", "nbf", "iss", "aud", "sub", "key", "tenant", "scope"] {
            let mut claims = claims();
            claims.as_object_mut().unwrap().remove(field);
            assert_eq!(issuer.verifier().verify(&issuer.sign(&claims)), Err(TokenError::Invalid), "{field}");
        }
        for (field, value, error) in [
            ("iss", json!("souk:elsewhere"), TokenError::Invalid),
            ("aud", json!("souk:nodes"), TokenError::Invalid),
            ("aud", json!([]), TokenError::Invalid),
            // A text in place of a number must not pass for one that need not be checked.
            ("exp", json!("9999999999"), TokenError::Invalid),
            ("exp", json!(null), TokenError::Invalid),
            ("exp", json!(now() - 11), TokenError::Expired),
            ("nbf", json!(now() + 60), TokenError::Invalid),
            ("nbf", json!("0"), TokenError::Invalid),
            ("sub", json!(null), TokenError::Invalid),
        ] {
            let token = issuer.sign(&with(field, value.clone()));
            assert_eq!(issuer.verifier().verify(&token), Err(error), "{field}: {value}");
        }
        // The clocks of two services may differ a little.
        assert!(issuer.verifier().verify(&issuer.sign(&with("exp", json!(now() - 5)))).is_ok());
        assert!(issuer.verifier().verify(&issuer.sign(&with("nbf", json!(now() + 5)))).is_ok());
    }

    #[test]
    fn no_other_algorithm_and_no_other_key_is_accepted() {
        let (issuer, other) = (Issuer::new(), Issuer::new());
        let verifier = issuer.verifier();
        assert_eq!(verifier.verify(&other.sign(&claims())), Err(TokenError::Invalid), "signed by another");
        let signed_with =
            |header: &Header, key: &EncodingKey| verifier.verify(&encode(header, &claims(), key).unwrap());
        assert_eq!(signed_with(&header("k2"), &issuer.signing), Err(TokenError::UnknownKey));
        assert_eq!(signed_with(&Header::new(Algorithm::EdDSA), &issuer.signing), Err(TokenError::Invalid), "no kid");
        // The public key, which everybody has, taken for a shared secret.
        let shared = EncodingKey::from_secret(&issuer.public);
        let hs256 = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::HS256) };
        assert_eq!(signed_with(&hs256, &shared), Err(TokenError::Invalid));
        let unsigned = |algorithm: &str| {
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            format!("{}.{}.", part(&json!({ "alg": algorithm, "kid": "k1" })), part(&claims()))
        };
        for algorithm in ["none", "None", "EdDSA", "HS256", ""] {
            assert_eq!(verifier.verify(&unsigned(algorithm)), Err(TokenError::Invalid), "{algorithm}");
        }
    }

    fn service_claims() -> Value {
        json!({
            "iss": ISSUER, "aud": SERVICES, "sub": "abc", "exp": now() + 900, "nbf": now(), "iat": now(), "jti": "1",
            "service": "gateway-1",
        })
    }

    #[test]
    fn a_services_token_and_a_tenants_never_pass_for_each_other() {
        let issuer = Issuer::new();
        let keys = || [("k1".to_owned(), URL_SAFE_NO_PAD.encode(&issuer.public))];
        let (of_tenants, of_services) = (Verifier::new(ISSUER, API, keys()), Verifier::new(ISSUER, SERVICES, keys()));
        let (tenants, services) = (issuer.sign(&claims()), issuer.sign(&service_claims()));
        assert_eq!(of_services.verify_service(&services).unwrap().service, "gateway-1");
        assert_eq!(of_services.verify_service(&tenants), Err(TokenError::Invalid));
        assert_eq!(of_tenants.verify(&services), Err(TokenError::Invalid));
        // Nor with the audience of the other: what they say is not the same.
        let mut strayed = service_claims();
        strayed["aud"] = json!(API);
        assert_eq!(of_tenants.verify(&issuer.sign(&strayed)), Err(TokenError::Invalid));
        assert_eq!(of_services.verify_service(&issuer.sign(&with("aud", json!(SERVICES)))), Err(TokenError::Invalid));
        // And of one that is for both only that counts which its claims are for.
        let mut both = service_claims();
        both["aud"] = json!([API, SERVICES]);
        assert_eq!(of_tenants.verify(&issuer.sign(&both)), Err(TokenError::Invalid));
    }

    #[test]
    fn every_claim_of_a_service_has_to_be_there_and_right() {
        let issuer = Issuer::new();
        let keys = [("k1".to_owned(), URL_SAFE_NO_PAD.encode(&issuer.public))];
        let verifier = Verifier::new(ISSUER, SERVICES, keys);
        for field in ["exp", "nbf", "iss", "aud", "sub", "service"] {
            let mut claims = service_claims();
            claims.as_object_mut().unwrap().remove(field);
            assert_eq!(verifier.verify_service(&issuer.sign(&claims)), Err(TokenError::Invalid), "{field}");
        }
        for (field, value, error) in [
            ("iss", json!("souk:elsewhere"), TokenError::Invalid),
            ("exp", json!(now() - 11), TokenError::Expired),
            ("nbf", json!(now() + 60), TokenError::Invalid),
        ] {
            let mut claims = service_claims();
            claims[field] = value;
            assert_eq!(verifier.verify_service(&issuer.sign(&claims)), Err(error), "{field}");
        }
        assert_eq!(verifier.verify_service(&Issuer::new().sign(&service_claims())), Err(TokenError::Invalid));
    }

    fn file_claims() -> Value {
        json!({ "iss": ISSUER, "aud": FILES, "sub": Digest::of(b"v").to_string(), "exp": now() + 900, "nbf": now() })
    }

    #[test]
    fn a_grant_of_files_is_for_one_version_and_for_nothing_else() {
        let issuer = Issuer::new();
        let keys = || [("k1".to_owned(), URL_SAFE_NO_PAD.encode(&issuer.public))];
        let of_files = Verifier::new(ISSUER, FILES, keys());
        let grant = issuer.sign(&file_claims());
        assert_eq!(of_files.verify_files(&grant).unwrap().sub, Digest::of(b"v"));
        // It opens nothing as a token, and no token is one.
        assert_eq!(Verifier::new(ISSUER, API, keys()).verify(&grant), Err(TokenError::Invalid));
        assert_eq!(Verifier::new(ISSUER, SERVICES, keys()).verify_service(&grant), Err(TokenError::Invalid));
        for (other, aud) in
            [(claims(), API), (service_claims(), SERVICES), (claims(), FILES), (service_claims(), FILES)]
        {
            let mut other = other;
            other["aud"] = json!(aud);
            assert_eq!(of_files.verify_files(&issuer.sign(&other)), Err(TokenError::Invalid), "{other}");
        }
        for (field, value, error) in [
            ("iss", json!("souk:elsewhere"), TokenError::Invalid),
            ("aud", json!([FILES]), TokenError::Invalid),
            ("sub", json!("sha256:x"), TokenError::Invalid),
            ("sub", json!(null), TokenError::Invalid),
            ("exp", json!(now() - 11), TokenError::Expired),
            ("exp", json!(null), TokenError::Invalid),
            ("nbf", json!(now() + 60), TokenError::Invalid),
        ] {
            let mut claims = file_claims();
            claims[field] = value;
            assert_eq!(of_files.verify_files(&issuer.sign(&claims)), Err(error), "{field}");
        }
        assert_eq!(of_files.verify_files(&Issuer::new().sign(&file_claims())), Err(TokenError::Invalid));
    }

    #[test]
    fn a_service_is_a_gateway_unless_its_token_says_what_it_is_and_one_of_later_is_nothing() {
        let kind_of = |kind: Value| {
            let mut claims = service_claims();
            claims["kind"] = kind;
            serde_json::from_value::<ServiceClaims>(claims).unwrap().kind()
        };
        assert_eq!(
            serde_json::from_value::<ServiceClaims>(service_claims()).unwrap().kind(),
            Some(ServiceKind::Gateway)
        );
        assert_eq!(kind_of(json!("gateway")), Some(ServiceKind::Gateway));
        assert_eq!(kind_of(json!("node")), Some(ServiceKind::Node));
        assert_eq!(kind_of(json!("trainer")), None);
    }

    proptest! {
        #[test]
        fn a_token_with_any_one_byte_changed_is_refused(position in any::<prop::sample::Index>(), byte in 0x21_u8..0x7f) {
            let issuer = Issuer::new();
            let mut token = issuer.sign(&claims()).into_bytes();
            let index = position.index(token.len());
            prop_assume!(token[index] != byte);
            token[index] = byte;
            prop_assert!(issuer.verifier().verify(std::str::from_utf8(&token).unwrap()).is_err());
        }

        #[test]
        fn no_text_makes_the_verifier_panic(text in "\\PC{0,200}", parts in prop::collection::vec("[A-Za-z0-9_=-]{0,40}", 0..5)) {
            let verifier = Issuer::new().verifier();
            prop_assert!(verifier.verify(&text).is_err());
            prop_assert!(verifier.verify(&parts.join(".")).is_err());
        }
    }
}
