//! Compiled hooks on their way between processes, sealed: running what somebody else wrote would be running machine code of theirs.
//!
//! A sealed artifact is a head and the compiled component. The head says which engine it fits to and which component it was made from,
//! and has an HMAC over all of it under a key from the settings. Nothing of it is believed before that was compared.

#![expect(
    unsafe_code,
    reason = "making a component of compiled bytes trusts them, and what is trusted is decided here"
)]

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;
use souk_protocol::Digest;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::engine::EngineHash;

/// How a sealed artifact begins: a name and the version of this form.
const MAGIC: &[u8; 16] = b"souk-hook-sealed";
/// Version of the form.
const FORM: u8 = 1;
const HASH_BYTES: usize = 32;
const ENGINE_AT: usize = MAGIC.len() + 1;
const DIGEST_AT: usize = ENGINE_AT + HASH_BYTES;
const SEAL_AT: usize = DIGEST_AT + HASH_BYTES;
const HEAD_BYTES: usize = SEAL_AT + HASH_BYTES;

/// The key that artifacts are sealed with. Clones are the same key.
#[derive(Clone, Debug)]
pub struct SealingKey(SecretString);

/// Why a sealed artifact is not run. In each case the component is to be compiled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArtifactError {
    /// It is none, or one of another form.
    #[error("these are no bytes of a sealed hook")]
    Form,
    /// It was compiled for another engine.
    #[error("it was compiled for another engine")]
    OtherEngine,
    /// It was made from another component.
    #[error("it was made from another component")]
    OtherComponent,
    /// Another key sealed it, or it was changed.
    #[error("it was sealed with another key, or was changed")]
    Seal,
    /// The engine does not take it, though it is sealed.
    #[error("the engine does not take it")]
    Refused,
}

impl SealingKey {
    /// A key of a secret.
    #[must_use]
    pub fn new(secret: SecretString) -> Self {
        Self(secret)
    }

    /// Closes what was compiled from the component of `digest` for `engine`.
    #[must_use]
    pub fn seal(&self, digest: &Digest, engine: &EngineHash, compiled: &[u8]) -> Bytes {
        let mut sealed = Vec::with_capacity(HEAD_BYTES + compiled.len());
        sealed.extend_from_slice(MAGIC);
        sealed.push(FORM);
        sealed.extend_from_slice(engine.as_bytes());
        sealed.extend_from_slice(digest.as_bytes());
        let seal = self.mac(&sealed, compiled).finalize().into_bytes();
        sealed.extend_from_slice(&seal);
        sealed.extend_from_slice(compiled);
        Bytes::from(sealed)
    }

    /// Opens what [`seal`](Self::seal) closed, if it fits.
    ///
    /// # Errors
    /// [`ArtifactError`]
    pub fn open<'a>(&self, sealed: &'a [u8], digest: &Digest, engine: &EngineHash) -> Result<&'a [u8], ArtifactError> {
        let (head, compiled) = sealed.split_at_checked(HEAD_BYTES).ok_or(ArtifactError::Form)?;
        let (signed, seal) = head.split_at(SEAL_AT);
        if !signed.starts_with(MAGIC) || signed[MAGIC.len()] != FORM {
            return Err(ArtifactError::Form);
        }
        if signed[ENGINE_AT..DIGEST_AT] != *engine.as_bytes() {
            return Err(ArtifactError::OtherEngine);
        }
        if signed[DIGEST_AT..] != *digest.as_bytes() {
            return Err(ArtifactError::OtherComponent);
        }
        self.mac(signed, compiled).verify_slice(seal).map_err(|_| ArtifactError::Seal)?;
        Ok(compiled)
    }

    fn mac(&self, head: &[u8], compiled: &[u8]) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(self.0.expose_secret().as_bytes());
        let mut mac = mac.expect("HMAC takes a key of any length");
        mac.update(head);
        mac.update(compiled);
        mac
    }
}

/// Makes a component of a sealed artifact.
///
/// # Errors
/// [`ArtifactError`]
pub(crate) fn open_component(
    engine: &Engine,
    key: &SealingKey,
    sealed: &[u8],
    digest: &Digest,
    hash: &EngineHash,
) -> Result<Component, ArtifactError> {
    let compiled = key.open(sealed, digest, hash)?;
    // SAFETY: the bytes are those that a compiler of ours made from a component that was checked, for an engine with these very
    // settings: `open` has compared an HMAC over them and over the engine's hash, under a key that no tenant has.
    let component = unsafe { Component::deserialize(engine, compiled) };
    component.map_err(|error| {
        tracing::error!(error = format!("{error:#}"), hook.digest = %digest, "The engine refuses a sealed hook");
        ArtifactError::Refused
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(secret: &str) -> SealingKey {
        SealingKey::new(SecretString::from(secret))
    }

    #[test]
    fn what_another_key_sealed_or_what_does_not_fit_is_refused_with_its_reason() {
        let (engine, digest) = (EngineHash::of_this_executable(), Digest::of(b"component"));
        let sealed = key("ours").seal(&digest, &engine, b"compiled");
        assert_eq!(key("ours").open(&sealed, &digest, &engine), Ok(&b"compiled"[..]));
        assert_eq!(key("theirs").open(&sealed, &digest, &engine), Err(ArtifactError::Seal));
        let other = Digest::of(b"another");
        assert_eq!(key("ours").open(&sealed, &other, &engine), Err(ArtifactError::OtherComponent));
        let newer: EngineHash = other.hex().parse().unwrap();
        assert_eq!(key("ours").open(&sealed, &digest, &newer), Err(ArtifactError::OtherEngine));
        for bytes in [&b""[..], b"\x7fELF", &sealed[..HEAD_BYTES - 1]] {
            assert_eq!(key("ours").open(bytes, &digest, &engine), Err(ArtifactError::Form));
        }
    }

    proptest! {
        #[test]
        fn no_changed_bit_passes(at in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let (engine, digest) = (Digest::of(b"engine").hex().parse().unwrap(), Digest::of(b"component"));
            let sealed = key("ours").seal(&digest, &engine, b"compiled");
            let mut changed = sealed.to_vec();
            let at = at.index(changed.len());
            changed[at] ^= 1 << bit;
            prop_assert!(key("ours").open(&changed, &digest, &engine).is_err());
        }
    }
}
