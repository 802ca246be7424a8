use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const ISSUER: &str = "https://login.example.com";
const EXPECTED: Expected<'_> = Expected { issuer: ISSUER, client_id: "souk", nonce: "n-1", access_token: "access" };

/// Signs a text.
type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// A key of a provider, and how it is published.
struct Key {
    sign: Sign,
    published: Value,
    algorithm: &'static str,
    public: Vec<u8>,
}

impl Key {
    fn ed25519(kid: &str) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let public = pair.public_key().as_ref().to_vec();
        let published = json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": URL_SAFE_NO_PAD.encode(&public) });
        Self { sign: Box::new(move |text| pair.sign(text).as_ref().to_vec()), published, algorithm: "EdDSA", public }
    }

    fn p256(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let public = pair.public_key().as_ref().to_vec();
        let [x, y] = [&public[1..33], &public[33..65]].map(|half| URL_SAFE_NO_PAD.encode(half));
        let published = json!({ "kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "x": x, "y": y });
        let sign = move |text: &[u8]| pair.sign(&SystemRandom::new(), text).unwrap().as_ref().to_vec();
        Self { sign: Box::new(sign), published, algorithm: "ES256", public }
    }

    fn rsa(kid: &str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        // A sequence of two integers, of which the first has 2048 bits.
        let public = pair.public_key().as_ref().to_vec();
        let n = URL_SAFE_NO_PAD.encode(&public[9..265]);
        let published = json!({ "kty": "RSA", "alg": "RS256", "kid": kid, "n": n, "e": "AQAB" });
        let sign = move |text: &[u8]| {
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature).unwrap();
            signature
        };
        Self { sign: Box::new(sign), published, algorithm: "RS256", public }
    }

    fn jwk(&self) -> Jwk {
        serde_json::from_value(self.published.clone()).unwrap()
    }

    fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({ "alg": self.algorithm, "kid": self.published["kid"] }), claims)
    }

    fn token_with(&self, header: &Value, claims: &Value) -> String {
        let text = unsigned(header, claims);
        let signature = URL_SAFE_NO_PAD.encode((self.sign)(text.as_bytes()));
        format!("{text}.{signature}")
    }
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

fn now() -> u64 {
    wall_clock::since_epoch().as_secs()
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "souk", "sub": "ada", "exp": now() + 300, "iat": now(), "nonce": "n-1",
        "email": "Ada@Example.com", "email_verified": true, "name": "Ada\u{7} Lovelace",
    })
}

fn with(field: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[field] = value;
    claims
}

#[test]
fn a_token_of_each_kind_of_key_says_who_somebody_is() {
    for key in [Key::ed25519("k"), Key::p256("k"), Key::rsa("k")] {
        let identity = verify(&key.token(&claims()), &[key.jwk()], EXPECTED).unwrap();
        let known = Known {
            name: Some("Ada Lovelace".to_owned()),
            email: Some("ada@example.com".to_owned()),
            email_is_verified: true,
        };
        assert_eq!(identity, Identity { subject: "ada".to_owned(), known }, "{}", key.algorithm);
        let half = half_hash("access", algorithm_of(&key.jwk()).unwrap());
        assert!(verify(&key.token(&with("at_hash", json!(half))), &[key.jwk()], EXPECTED).is_ok());
        let other = verify(&key.token(&with("at_hash", json!("x"))), &[key.jwk()], EXPECTED);
        assert_eq!(other, Err(IdTokenError::Pair));
    }
    // As the specification's own example has it for SHA-256.
    let example = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";
    assert_eq!(half_hash(example, Algorithm::RS256), "77QmUPtjPfzWtF2AnpK9RQ");
}

#[test]
fn every_claim_that_is_wrong_or_missing_is_refused() {
    let key = Key::ed25519("k");
    let refused = |claims: &Value| verify(&key.token(claims), &[key.jwk()], EXPECTED).err();
    for field in ["iss", "aud", "sub", "exp", "iat", "nonce"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(field);
        assert!(refused(&claims).is_some(), "{field}");
    }
    for (field, value, error) in [
        ("iss", json!("https://other.example.com"), IdTokenError::Invalid),
        ("iss", json!("https://login.example.com/"), IdTokenError::Invalid),
        ("aud", json!("other"), IdTokenError::Invalid),
        ("aud", json!([]), IdTokenError::Invalid),
        ("aud", json!(["souk", "other"]), IdTokenError::Party),
        ("azp", json!("other"), IdTokenError::Party),
        ("nonce", json!("n-2"), IdTokenError::Nonce),
        ("nonce", json!(""), IdTokenError::Nonce),
        ("exp", json!(now() - 61), IdTokenError::Expired),
        ("exp", json!("9999999999"), IdTokenError::Invalid),
        ("iat", json!(now() + 120), IdTokenError::Invalid),
        ("nbf", json!(now() + 120), IdTokenError::Invalid),
        ("sub", json!(""), IdTokenError::Invalid),
        ("sub", json!("a".repeat(256)), IdTokenError::Invalid),
    ] {
        assert_eq!(refused(&with(field, value.clone())), Some(error), "{field}: {value}");
    }
    let mut for_several = with("aud", json!(["souk", "other"]));
    for_several["azp"] = json!("souk");
    assert_eq!(refused(&for_several), None);
}

#[test]
fn the_kind_of_the_key_decides_how_a_token_is_signed_whatever_it_says() {
    let (key, other) = (Key::p256("k"), Key::p256("k"));
    let (rsa, keys) = (Key::rsa("r"), [key.jwk()]);
    assert_eq!(verify(&other.token(&claims()), &keys, EXPECTED), Err(IdTokenError::Invalid), "another's signature");
    assert_eq!(verify(&rsa.token(&claims()), &keys, EXPECTED), Err(IdTokenError::UnknownKey));
    for algorithm in ["none", "None", "NONE", "", "ES256"] {
        let text = unsigned(&json!({ "alg": algorithm, "kid": "k" }), &claims());
        assert!(verify(&format!("{text}."), &keys, EXPECTED).is_err(), "{algorithm}");
        assert!(verify(&text, &keys, EXPECTED).is_err(), "{algorithm}");
    }
    // The public key, which everybody has, taken for a shared secret.
    let text = unsigned(&json!({ "alg": "HS256", "kid": "k" }), &claims());
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.public).unwrap();
    mac.update(text.as_bytes());
    let forged = format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()));
    assert_eq!(verify(&forged, &keys, EXPECTED), Err(IdTokenError::Algorithm));
    for algorithm in ["RS256", "ES384", "EdDSA", "PS256"] {
        let token = key.token_with(&json!({ "alg": algorithm, "kid": "k" }), &claims());
        assert_eq!(verify(&token, &keys, EXPECTED), Err(IdTokenError::Algorithm), "{algorithm}");
    }
}

#[test]
fn a_key_is_found_by_its_name_and_where_none_is_named_only_if_there_is_one() {
    let (one, two) = (Key::ed25519("one"), Key::ed25519("two"));
    let unnamed = one.token_with(&json!({ "alg": "EdDSA" }), &claims());
    assert!(verify(&unnamed, &[one.jwk()], EXPECTED).is_ok());
    let both = [one.jwk(), two.jwk()];
    assert_eq!(verify(&unnamed, &both, EXPECTED), Err(IdTokenError::UnknownKey));
    assert!(verify(&two.token(&claims()), &both, EXPECTED).is_ok());
    for (field, value) in [("use", "enc"), ("alg", "ES256"), ("kid", "three")] {
        let mut published = one.published.clone();
        published[field] = json!(value);
        let other: Jwk = serde_json::from_value(published).unwrap();
        assert_eq!(verify(&one.token(&claims()), &[other], EXPECTED), Err(IdTokenError::UnknownKey), "{field}");
    }
}

#[test]
fn an_address_counts_as_verified_only_where_the_provider_says_so() {
    let key = Key::ed25519("k");
    let known =
        |field: &str, value: Value| verify(&key.token(&with(field, value)), &[key.jwk()], EXPECTED).unwrap().known;
    for (said, is_verified) in [
        (json!(true), true),
        (json!("true"), true),
        (json!(false), false),
        (json!("yes"), false),
        (json!(null), false),
        (json!(1), false),
    ] {
        assert_eq!(known("email_verified", said.clone()).email_is_verified, is_verified, "{said}");
    }
    for no_address in [json!(null), json!("ada"), json!(7), json!("<a@b.c>")] {
        let known = known("email", no_address);
        assert_eq!((known.email, known.email_is_verified), (None, false));
    }
    let identity = || Identity { subject: "ada".to_owned(), known: Known::default() };
    let info =
        |sub: &str| serde_json::from_value(json!({ "sub": sub, "email": "a@b.cd", "email_verified": true })).unwrap();
    assert_eq!(identity().with(info("ada")).unwrap().known.email.as_deref(), Some("a@b.cd"));
    assert_eq!(identity().with(info("eve")), Err(IdTokenError::Pair), "of somebody else");
}

proptest! {
    #[test]
    fn a_token_with_any_one_byte_changed_is_refused(position in any::<prop::sample::Index>(), byte in 0x21_u8..0x7f) {
        let key = Key::ed25519("k");
        let mut token = key.token(&claims()).into_bytes();
        let index = position.index(token.len());
        prop_assume!(token[index] != byte);
        token[index] = byte;
        prop_assert!(verify(std::str::from_utf8(&token).unwrap(), &[key.jwk()], EXPECTED).is_err());
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}", parts in prop::collection::vec("[A-Za-z0-9_=-]{0,40}", 0..5)) {
        let keys = [Key::ed25519("k").jwk()];
        prop_assert!(verify(&text, &keys, EXPECTED).is_err());
        prop_assert!(verify(&parts.join("."), &keys, EXPECTED).is_err());
    }
}
