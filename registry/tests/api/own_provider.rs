//! A provider of identities that answers whatever a test wants.

use std::sync::{Arc, Mutex};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::http::HeaderMap;
use axum::{Json, Router, routing};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use souk_protocol::wall_clock;

/// A provider that answers what it is told to.
pub(crate) struct OwnProvider {
    pub(crate) url: String,
    signing: EncodingKey,
    pub(crate) said: Arc<Mutex<Said>>,
}

#[derive(Default)]
pub(crate) struct Said {
    pub(crate) metadata: Value,
    pub(crate) keys: Value,
    pub(crate) tokens: Value,
    /// What the token endpoint was asked with.
    pub(crate) asked: Option<(HeaderMap, String)>,
    pub(crate) num_metadata: usize,
    pub(crate) num_keys: usize,
}

impl OwnProvider {
    pub(crate) async fn start() -> Self {
        let said: Arc<Mutex<Said>> = Arc::default();
        let (metadata, keys, tokens) = (said.clone(), said.clone(), said.clone());
        let router = Router::new()
            .route(
                "/.well-known/openid-configuration",
                routing::get(async move || {
                    let mut said = metadata.lock().unwrap();
                    said.num_metadata += 1;
                    Json(said.metadata.clone())
                }),
            )
            .route(
                "/keys",
                routing::get(async move || {
                    let mut said = keys.lock().unwrap();
                    said.num_keys += 1;
                    Json(said.keys.clone())
                }),
            )
            .route(
                "/token",
                routing::post(async move |headers: HeaderMap, body: String| {
                    let mut said = tokens.lock().unwrap();
                    said.asked = Some((headers, body));
                    Json(said.tokens.clone())
                }),
            );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let provider = Self { signing: EncodingKey::from_secret(&[]), url, said };
        provider.say(|said, url| {
            said.metadata = json!({
                "issuer": url, "authorization_endpoint": format!("{url}/authorize?tenant=1"),
                "token_endpoint": format!("{url}/token"), "jwks_uri": format!("{url}/keys"),
            });
        });
        provider.with_new_key("k1")
    }

    pub(crate) fn say(&self, change: impl FnOnce(&mut Said, &str)) {
        change(&mut self.said.lock().unwrap(), &self.url);
    }

    fn with_new_key(mut self, kid: &str) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        self.signing = EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref());
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        // A key of a kind that nobody knows is no harm.
        let keys = json!({ "keys": [{ "kty": "moon" }, { "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x }] });
        self.say(|said, _| said.keys = keys);
        self
    }

    /// Tokens for a sign-in, with some of the claims changed.
    pub(crate) fn issue(&self, kid: &str, nonce: &str, changes: &Value) {
        let now = wall_clock::since_epoch().as_secs();
        let mut claims = json!({
            "iss": self.url, "aud": "souk", "sub": "ada", "exp": now + 300, "iat": now, "nonce": nonce,
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::EdDSA) };
        let token = jsonwebtoken::encode(&header, &claims, &self.signing).unwrap();
        self.say(|said, _| said.tokens = json!({ "access_token": "a", "token_type": "Bearer", "id_token": token }));
    }
}
