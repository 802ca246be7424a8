//! The keys that verify tokens of tenants and services, as registries publish them.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::Deserialize;
use souk_http::token::{API, Claims, SERVICES, ServiceClaims, TokenError, Verifier};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::registries::Registries;

/// Keys are asked for again for tokens with an unknown one at most this often, so that made-up names cost little. Who asks
/// sooner waits for the next answer, since the key may have been made since the last.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Verifies tokens.
pub(crate) struct TokenKeys {
    /// What was read last. Locked for a look.
    known: RwLock<Option<Arc<Known>>>,
    /// Held while keys are asked for; when that began last.
    reading: Mutex<Option<Instant>>,
}

/// The keys, for each whom tokens are for.
struct Known {
    of_tenants: Verifier,
    of_services: Verifier,
}

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// It is none, or over.
    Invalid,
    /// It cannot be told here: a registry may know.
    Unknown,
}

/// A JSON Web Key Set, as far as it is understood.
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Key>,
}

/// One key of it. Those of other kinds are passed over.
#[derive(Deserialize)]
struct Key {
    kty: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    kid: String,
    #[serde(default)]
    x: String,
}

impl TokenKeys {
    pub(crate) fn new() -> Self {
        Self { known: RwLock::new(None), reading: Mutex::new(None) }
    }

    /// What a token says, if it is good by this gateway's clock. Asks for keys where its own is not known.
    pub(crate) async fn verify(&self, registries: &Registries, token: &str) -> Result<Claims, Doubt> {
        self.verified(registries, |known| known.of_tenants.verify(token)).await
    }

    /// What a service's token says, likewise.
    pub(crate) async fn verify_service(&self, registries: &Registries, token: &str) -> Result<ServiceClaims, Doubt> {
        self.verified(registries, |known| known.of_services.verify_service(token)).await
    }

    async fn verified<C>(
        &self,
        registries: &Registries,
        verify: impl Fn(&Known) -> Result<C, TokenError>,
    ) -> Result<C, Doubt> {
        let mut verified = self.by_known(&verify);
        if matches!(verified, Err(TokenError::UnknownKey)) {
            self.look_again(registries).await;
            verified = self.by_known(&verify);
        }
        verified.map_err(|error| match error {
            TokenError::UnknownKey => Doubt::Unknown,
            TokenError::Expired | TokenError::Invalid => Doubt::Invalid,
        })
    }

    /// The same by the keys that are known.
    pub(crate) fn verify_by_known(&self, token: &str) -> Result<Claims, TokenError> {
        self.by_known(|known| known.of_tenants.verify(token))
    }

    fn by_known<C>(&self, verify: impl Fn(&Known) -> Result<C, TokenError>) -> Result<C, TokenError> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).clone();
        verify(&*known.ok_or(TokenError::UnknownKey)?)
    }

    /// Returns after registries were asked for the keys when this was called or later, whatever came of it: all who ask
    /// meanwhile share one answer.
    async fn look_again(&self, registries: &Registries) {
        let asked_at = Instant::now();
        let mut read_at = self.reading.lock().await;
        if read_at.is_some_and(|at| at >= asked_at) {
            return;
        }
        if let Some(at) = *read_at {
            tokio::time::sleep_until(at + LOOK_AGAIN_AFTER).await;
        }
        *read_at = Some(Instant::now());
        let Some(issuer) = registries.issuer() else { return };
        if let Ok(set) = registries.published::<KeySet>("/registry/v1/auth/jwks").await {
            let keys: Vec<_> = set.usable().collect();
            let of = |audience| Verifier::new(&issuer, audience, keys.iter().cloned());
            let known = Arc::new(Known { of_tenants: of(API), of_services: of(SERVICES) });
            *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
        }
    }
}

impl KeySet {
    fn usable(self) -> impl Iterator<Item = (String, String)> {
        let is_usable = |key: &Key| key.kty == "OKP" && key.crv == "Ed25519" && !key.kid.is_empty();
        self.keys.into_iter().filter(is_usable).map(|key| (key.kid, key.x))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_of_other_kinds_are_passed_over() {
        let set = json!({ "keys": [
            { "kty": "RSA", "kid": "a", "n": "x", "e": "AQAB" },
            { "kty": "OKP", "crv": "X25519", "kid": "b", "x": "x" },
            { "kty": "OKP", "crv": "Ed25519", "x": "without a name" },
            { "kty": "OKP", "crv": "Ed25519", "kid": "c", "x": "y", "use": "sig" },
        ] });
        let usable: Vec<_> = serde_json::from_value::<KeySet>(set).unwrap().usable().collect();
        assert_eq!(usable, [("c".to_owned(), "y".to_owned())]);
    }
}
