//! The pepper: the server's own secret in the hash of API keys. A stolen database without it verifies nothing.
//!
//! It lives in a file beside the database, one line `<version>:<64 hex digits>` per pepper. The highest version hashes
//! new keys; older ones still verify the keys that were made under them, so a pepper is rotated by adding a line.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretBox};
use sha2::Sha256;

use super::ApiKey;

/// HMAC-SHA-256 of a key's text.
pub(crate) type KeyHash = [u8; 32];

const PEPPER_BYTES: usize = 32;

/// All peppers of this installation, by version.
pub(crate) struct Peppers {
    by_version: BTreeMap<i32, SecretBox<[u8; PEPPER_BYTES]>>,
}

/// Why the peppers cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PepperError {
    /// The file cannot be read or made.
    #[error("the pepper file {path} cannot be used")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the file system says.
        #[source]
        source: io::Error,
    },
    /// A line is not `<version>:<64 hex digits>`. The line itself is a secret and is not repeated here.
    #[error("line {line} of the pepper file {path} is not `<version>:<64 hex digits>`")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
    },
    /// Keys exist that no pepper can verify.
    #[error(
        "the pepper file {path} is missing while the database has API keys that need it; restore it from a backup, or no existing key will work"
    )]
    Lost {
        /// The file.
        path: PathBuf,
    },
}

impl Peppers {
    /// Reads the pepper file, or makes it with one new pepper. `keys_exist` says that making a new one would lock
    /// everybody out.
    pub(crate) fn open(path: &Path, keys_exist: bool) -> Result<Self, PepperError> {
        let failed = |source| PepperError::Io { path: path.to_owned(), source };
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound && keys_exist => {
                Err(PepperError::Lost { path: path.to_owned() })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let pepper: [u8; PEPPER_BYTES] = rand::random();
                write_secret(path, &line(1, &pepper)).map_err(failed)?;
                Ok(Self { by_version: BTreeMap::from([(1, SecretBox::new(Box::new(pepper)))]) })
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Self, PepperError> {
        let mut by_version = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let malformed = || PepperError::Malformed { path: path.to_owned(), line: index + 1 };
            let (version, hex) = line.split_once(':').ok_or_else(malformed)?;
            let version = version.parse::<i32>().map_err(|_| malformed())?;
            let pepper = bytes_of(hex).ok_or_else(malformed)?;
            by_version.insert(version, SecretBox::new(Box::new(pepper)));
        }
        if by_version.is_empty() {
            return Err(PepperError::Malformed { path: path.to_owned(), line: 1 });
        }
        Ok(Self { by_version })
    }

    /// The version that hashes new keys.
    pub(crate) fn newest_version(&self) -> i32 {
        *self.by_version.last_key_value().expect("a pepper file without a pepper is refused").0
    }

    /// The hash of `key` under one version, or `None` if this installation does not have that version.
    pub(crate) fn hash(&self, version: i32, key: &ApiKey) -> Option<KeyHash> {
        let pepper = self.by_version.get(&version)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(pepper.expose_secret()).expect("HMAC takes a key of any length");
        mac.update(key.expose().as_bytes());
        Some(mac.finalize().into_bytes().into())
    }
}

fn line(version: i32, pepper: &[u8]) -> String {
    let mut text = format!("{version}:");
    for byte in pepper {
        write!(text, "{byte:02x}").expect("writing to a string succeeds");
    }
    text.push('\n');
    text
}

fn bytes_of(hex: &str) -> Option<[u8; PEPPER_BYTES]> {
    if hex.len() != PEPPER_BYTES * 2 || !hex.is_ascii() {
        return None;
    }
    let mut bytes = [0; PEPPER_BYTES];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[index * 2..index * 2 + 2], 16).ok()?;
    }
    Some(bytes)
}

/// Makes the file, readable by its owner alone, under a temporary name first: a crash leaves no half pepper behind.
fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let partial = path.with_extension("partial");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&partial)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&partial, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pepper_is_made_once_private_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key-pepper");
        let key = ApiKey::generate();
        let first = Peppers::open(&path, false).unwrap().hash(1, &key).unwrap();
        assert_eq!(Peppers::open(&path, true).unwrap().hash(1, &key), Some(first));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_lost_pepper_is_not_replaced_while_keys_depend_on_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key-pepper");
        assert!(matches!(Peppers::open(&path, true), Err(PepperError::Lost { .. })));
        assert!(!path.exists());
    }

    #[test]
    fn an_added_line_becomes_the_newest_and_old_ones_still_verify() {
        let path = Path::new("key-pepper");
        let text = format!("{}{}", line(1, &[1; 32]), line(2, &[2; 32]));
        let peppers = Peppers::parse(&text, path).unwrap();
        let key = ApiKey::generate();
        assert_eq!(peppers.newest_version(), 2);
        assert_ne!(peppers.hash(1, &key), peppers.hash(2, &key));
        assert_eq!(peppers.hash(3, &key), None);
        for bad in ["", "1", "1:abcd", "x:00", &format!("1:{}", "é".repeat(32))] {
            assert!(matches!(Peppers::parse(bad, path), Err(PepperError::Malformed { line: 1, .. })), "{bad}");
        }
    }
}
