//! Secrets at rest: what the database holds only closed. AES-256-GCM under a key that is not in the database.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};

use crate::secrets::{SecretKind, SecretSource, Secrets};

/// The keys of seals, as the settings and the log call them.
pub(crate) const SEALING: SecretKind =
    SecretKind { what: "sealing key", setting: "registry.sealing_key", file: "sealing-key", opens: "sealed secrets" };

/// Closes and opens secrets.
pub(crate) struct Seals(Secrets);

/// A closed secret: nonce, ciphertext, tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// Of the key that closed it.
    pub(crate) version: i32,
    pub(crate) bytes: Vec<u8>,
}

/// A closed secret that no key opens: the key's version is gone, or the bytes were changed, or moved to another row.
#[derive(Debug, thiserror::Error)]
#[error("a sealed secret of version {0} cannot be opened")]
pub(crate) struct CannotOpen(i32);

impl Seals {
    /// See [`Secrets::open`].
    pub(crate) fn open_keys(
        source: &SecretSource,
        data_dir: &std::path::Path,
        are_needed: bool,
    ) -> Result<Self, crate::secrets::SecretError> {
        Secrets::open(SEALING, source, data_dir, are_needed).map(Self)
    }

    /// The version that closes what is new.
    pub(crate) fn newest_version(&self) -> i32 {
        self.0.newest_version()
    }

    /// Closes `secret` for the row `place`: it opens nowhere else.
    pub(crate) fn close(&self, secret: &[u8], place: &str) -> Sealed {
        let version = self.0.newest_version();
        let key = self.key(version).expect("the newest key exists");
        let mut closed = secret.to_vec();
        let sealed = key.seal_in_place_append_tag(Aad::from(place.as_bytes()), &mut closed);
        let nonce = sealed.expect("a secret is far shorter than what one nonce may close");
        Sealed { version, bytes: [nonce.as_ref().as_slice(), &closed].concat() }
    }

    /// The secret of the row `place`.
    pub(crate) fn open(&self, sealed: &Sealed, place: &str) -> Result<Vec<u8>, CannotOpen> {
        let cannot = || CannotOpen(sealed.version);
        let key = self.key(sealed.version).ok_or_else(cannot)?;
        let (nonce, closed) = sealed.bytes.split_at_checked(NONCE_LEN).ok_or_else(cannot)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| cannot())?;
        let mut closed = closed.to_vec();
        let opened = key.open_in_place(nonce, Aad::from(place.as_bytes()), &mut closed);
        Ok(opened.map_err(|_| cannot())?.to_vec())
    }

    fn key(&self, version: i32) -> Option<RandomizedNonceKey> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, self.0.version(version)?);
        Some(key.expect("a secret is as long as a key of this cipher"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seals(text: &str) -> Seals {
        Seals(Secrets::parse(text, "a test").unwrap())
    }

    fn first() -> String {
        format!("1:{}", "01".repeat(32))
    }

    #[test]
    fn a_secret_opens_in_its_place_and_nowhere_else() {
        let seals = seals(&first());
        let sealed = seals.close(b"private", "row 1");
        assert_eq!(seals.open(&sealed, "row 1").unwrap(), b"private");
        assert!(seals.open(&sealed, "row 2").is_err());
        assert_ne!(seals.close(b"private", "row 1"), sealed, "no nonce comes twice");
        assert!(!sealed.bytes.windows(7).any(|window| window == b"private"));
    }

    #[test]
    fn an_older_version_still_opens_and_one_that_is_gone_does_not() {
        let sealed = seals(&first()).close(b"private", "row");
        let both = seals(&format!("{} 2:{}", first(), "02".repeat(32)));
        assert_eq!(both.open(&sealed, "row").unwrap(), b"private");
        assert_eq!(both.close(b"private", "row").version, 2);
        let error = seals(&format!("2:{}", "02".repeat(32))).open(&sealed, "row").unwrap_err();
        assert_eq!(error.to_string(), "a sealed secret of version 1 cannot be opened");
    }

    proptest! {
        #[test]
        fn changed_bytes_do_not_open(secret in prop::collection::vec(any::<u8>(), 0..64), at in any::<prop::sample::Index>(), by in 1_u8..) {
            let seals = seals(&first());
            let mut sealed = seals.close(&secret, "row");
            prop_assert_eq!(seals.open(&sealed, "row").unwrap(), secret);
            let index = at.index(sealed.bytes.len());
            sealed.bytes[index] ^= by;
            prop_assert!(seals.open(&sealed, "row").is_err());
            sealed.bytes.truncate(index);
            prop_assert!(seals.open(&sealed, "row").is_err());
        }
    }
}
