//! The text of an API key: `souk_<12-char id>_<40-char secret><6-char checksum>`, all in base 62.
//!
//! The checksum is CRC-32 over everything before it. It makes a scanner for leaked keys exact, and lets the server
//! refuse garbage without asking the database.

use std::fmt;

use rand::RngExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use souk_protocol::KeyId;

const PREFIX: &str = "souk_";
const ID_CHARS: usize = 12;
/// 40 characters of base 62 are 238 bits.
const SECRET_CHARS: usize = 40;
/// 62^6 is above 2^32.
const CHECKSUM_CHARS: usize = 6;
const KEY_CHARS: usize = PREFIX.len() + ID_CHARS + 1 + SECRET_CHARS + CHECKSUM_CHARS;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A well-formed API key with a matching checksum. Whether it is known is another question.
#[derive(Clone)]
pub struct ApiKey {
    text: SecretString,
}

/// A text that cannot be an API key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("an API key is `souk_`, 12 characters, `_` and 46 characters, the last 6 of them a checksum")]
pub struct MalformedKey;

impl ApiKey {
    /// A new key from the operating system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        let mut rng = rand::rng();
        let mut random = |num_chars: usize| -> String {
            (0..num_chars).map(|_| char::from(BASE62[rng.random_range(0..BASE62.len())])).collect()
        };
        let body = format!("{PREFIX}{}_{}", random(ID_CHARS), random(SECRET_CHARS));
        let checksum = checksum(&body);
        Self { text: format!("{body}{checksum}").into() }
    }

    /// Checks the shape and the checksum of what a caller presents.
    ///
    /// # Errors
    /// [`MalformedKey`], without saying which part is wrong.
    pub fn parse(presented: &str) -> Result<Self, MalformedKey> {
        let is_well_formed = presented.len() == KEY_CHARS
            && presented.is_ascii()
            && presented.starts_with(PREFIX)
            && presented.as_bytes()[PREFIX.len() + ID_CHARS] == b'_'
            && presented.bytes().enumerate().skip(PREFIX.len()).all(|(position, byte)| {
                byte.is_ascii_alphanumeric() || (byte == b'_' && position == PREFIX.len() + ID_CHARS)
            });
        if !is_well_formed {
            return Err(MalformedKey);
        }
        let (body, given) = presented.split_at(KEY_CHARS - CHECKSUM_CHARS);
        if checksum(body) == given { Ok(Self { text: presented.into() }) } else { Err(MalformedKey) }
    }

    /// The public half: fit for logs, lists and the database.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId::from_stored(&self.text.expose_secret()[PREFIX.len()..PREFIX.len() + ID_CHARS])
    }

    /// The end of the key, by which its owner tells it from others in a list. It is part of the checksum, so that it
    /// gives away little.
    #[must_use]
    pub fn last_four(&self) -> &str {
        &self.text.expose_secret()[KEY_CHARS - 4..]
    }

    /// The whole text, to be shown once or hashed.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey(souk_{}_…)", self.id())
    }
}

fn checksum(body: &str) -> String {
    let mut rest = crc32fast::hash(body.as_bytes());
    let mut digits = [b'0'; CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_generated_key_reads_back_and_hides_its_secret() {
        let key = ApiKey::generate();
        let read = ApiKey::parse(key.expose()).unwrap();
        assert_eq!(read.id(), key.id());
        assert_eq!(read.id().as_str().len(), ID_CHARS);
        assert!(key.expose().ends_with(key.last_four()));
        let secret = &key.expose()[PREFIX.len() + ID_CHARS + 1..];
        assert!(!format!("{key:?}").contains(secret));
        assert_ne!(ApiKey::generate().expose(), key.expose());
    }

    #[test]
    fn the_checksum_is_the_crc_in_base_62() {
        // CRC-32 of "123456789" is 0xCBF43926 = 3421780262.
        assert_eq!(checksum("123456789"), "3jZRME");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,80}") {
            let _ = ApiKey::parse(&text);
        }

        #[test]
        fn only_a_matching_checksum_makes_a_key(id in "[0-9A-Za-z]{12}", secret in "[0-9A-Za-z]{40}", crc in "[0-9A-Za-z]{6}") {
            let body = format!("souk_{id}_{secret}");
            let right = checksum(&body);
            let (good, random) = (format!("{body}{right}"), format!("{body}{crc}"));
            prop_assert!(ApiKey::parse(&good).is_ok());
            prop_assert_eq!(ApiKey::parse(&random).is_ok(), crc == right);
        }

        #[test]
        fn changing_any_character_breaks_a_key(position in 0..KEY_CHARS, replacement in "[ -~]") {
            let key = ApiKey::generate();
            let mut text = key.expose().to_owned();
            text.replace_range(position..=position, &replacement);
            prop_assert_eq!(ApiKey::parse(&text).is_ok(), text == key.expose());
        }

        #[test]
        fn a_longer_or_shorter_text_is_no_key(cut in 0..KEY_CHARS, tail in "[0-9A-Za-z]{1,9}") {
            let key = ApiKey::generate();
            prop_assert_eq!(ApiKey::parse(&key.expose()[..cut]).err(), Some(MalformedKey));
            let longer = format!("{}{tail}", key.expose());
            prop_assert_eq!(ApiKey::parse(&longer).err(), Some(MalformedKey));
        }
    }

    #[test]
    fn any_bytes_of_a_key_are_a_key_only_with_their_checksum() {
        souk_testkit::fuzz("api_key", |bytes| {
            let text = String::from_utf8_lossy(bytes);
            match ApiKey::parse(&text) {
                Ok(key) => {
                    assert_eq!(key.expose(), text);
                    assert_eq!((key.id().as_str().len(), key.last_four().len()), (ID_CHARS, 4));
                    "a key".to_owned()
                }
                Err(MalformedKey) => format!("no key of {}", text.len() == KEY_CHARS),
            }
        });
    }
}
