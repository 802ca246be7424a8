//! What a person presents: the cookie of a session, the end of a link. An id, by which its row is found, a dot, and 32
//! random bytes in base64url. The row has SHA-256 of the bytes and nothing else of them: at 256 bits of randomness there is
//! nothing to guess, so the hash needs neither salt nor pepper.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretBox};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

const SECRET_BYTES: usize = 32;
/// Hex digits of an id, after its prefix.
const ID_DIGITS: usize = 32;

/// An id with its secret.
pub(crate) struct Secret {
    id: String,
    bytes: SecretBox<[u8; SECRET_BYTES]>,
}

impl Secret {
    /// A new one from the operating system's randomness. Ids sort by when they were made.
    pub(crate) fn generate(prefix: &str) -> Self {
        let id = format!("{prefix}_{}", Uuid::now_v7().simple());
        Self { id, bytes: SecretBox::new(Box::new(rand::random())) }
    }

    /// What was presented, if it can be one with this prefix.
    pub(crate) fn parse(prefix: &str, text: &str) -> Option<Self> {
        let (id, secret) = text.split_once('.')?;
        let digits = id.strip_prefix(prefix)?.strip_prefix('_')?;
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digits.len() != ID_DIGITS || !digits.bytes().all(is_digit) {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(secret).ok()?.try_into().ok()?;
        Some(Self { id: id.to_owned(), bytes: SecretBox::new(Box::new(bytes)) })
    }

    /// The public half.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// What is stored.
    pub(crate) fn hash(&self) -> Vec<u8> {
        Sha256::digest(self.bytes.expose_secret()).to_vec()
    }

    /// Whether this is the secret that was stored, in a time that tells nothing of where they differ.
    pub(crate) fn is(&self, stored: &[u8]) -> bool {
        self.hash().ct_eq(stored).into()
    }

    /// Another secret that whoever has this one can make, and nobody else; in base64url.
    pub(crate) fn derive(&self, purpose: &str) -> String {
        let key = self.bytes.expose_secret();
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
        mac.update(purpose.as_bytes());
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    }

    /// Whether `presented` is what [`derive`](Self::derive) makes.
    pub(crate) fn derives(&self, purpose: &str, presented: &str) -> bool {
        self.derive(purpose).as_bytes().ct_eq(presented.as_bytes()).into()
    }

    /// The whole text, for the one who is to present it.
    pub(crate) fn expose(&self) -> String {
        format!("{}.{}", self.id, URL_SAFE_NO_PAD.encode(self.bytes.expose_secret()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({}.…)", self.id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_secret_reads_back_knows_its_hash_and_hides() {
        let secret = Secret::generate("ses");
        let text = secret.expose();
        let read = Secret::parse("ses", &text).unwrap();
        assert_eq!((read.id(), read.hash()), (secret.id(), secret.hash()));
        assert!(read.is(&secret.hash()) && !read.is(&[]) && !read.is(&Secret::generate("ses").hash()));
        assert!(read.derives("csrf", &secret.derive("csrf")) && !read.derives("state", &secret.derive("csrf")));
        assert!(!format!("{secret:?}").contains(&text[text.find('.').unwrap() + 1..]));
        assert!(Secret::parse("lnk", &text).is_none(), "one kind is not another");
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_what_it_is_or_not_at_all(text in "\\PC{0,120}|ses_[0-9a-f]{32}\\.[A-Za-z0-9_-]{42,44}") {
            if let Some(secret) = Secret::parse("ses", &text) {
                prop_assert_eq!(secret.expose(), text);
            }
        }

        #[test]
        fn a_changed_character_makes_another_secret_or_none(position in 0..80_usize, replacement in "[ -~]") {
            let secret = Secret::generate("ses");
            let mut text = secret.expose();
            text.replace_range(position..=position, &replacement);
            let is_same = Secret::parse("ses", &text).is_some_and(|read| read.id() == secret.id() && read.is(&secret.hash()));
            prop_assert_eq!(is_same, text == secret.expose());
        }
    }
}
