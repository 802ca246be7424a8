//! The pepper: the server's own secret in the hash of API keys. A stolen database without it verifies nothing.

use std::path::Path;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::ApiKey;
use crate::secrets::{SecretError, SecretKind, SecretSource, Secrets};

/// HMAC-SHA-256 of a key's text.
pub(crate) type KeyHash = [u8; 32];

const PEPPER: SecretKind =
    SecretKind { what: "pepper", setting: "registry.pepper", file: "key-pepper", opens: "API keys" };

/// All peppers of this installation, by version.
pub(crate) struct Peppers(Secrets);

impl Peppers {
    /// See [`Secrets::open`]. `keys_exist` says that making a new one would lock everybody out.
    pub(crate) fn open(source: &SecretSource, data_dir: &Path, keys_exist: bool) -> Result<Self, SecretError> {
        Secrets::open(PEPPER, source, data_dir, keys_exist).map(Self)
    }

    /// The version that hashes new keys.
    pub(crate) fn newest_version(&self) -> i32 {
        self.0.newest_version()
    }

    /// The hash of `key` under one version, or `None` if this installation does not have that version.
    pub(crate) fn hash(&self, version: i32, key: &ApiKey) -> Option<KeyHash> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.version(version)?).expect("HMAC takes a key of any length");
        mac.update(key.expose().as_bytes());
        Some(mac.finalize().into_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hash_differently_under_each_version() {
        let text = format!("1:{} 2:{}", "01".repeat(32), "02".repeat(32));
        let peppers = Peppers(Secrets::parse(&text, "a test").unwrap());
        let key = ApiKey::generate();
        assert_eq!(peppers.newest_version(), 2);
        assert_ne!(peppers.hash(1, &key), peppers.hash(2, &key));
        assert_eq!(peppers.hash(3, &key), None);
    }
}
