//! The pepper: the server's own secret in the hash of API keys. A stolen database without it verifies nothing.
//!
//! One line `<version>:<64 hex digits>` per pepper. The highest version hashes new keys; older ones still verify the
//! keys that were made under them, so a pepper is rotated by adding a line. All registries of one database need the
//! same.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use sha2::Sha256;
use uuid::Uuid;

use super::ApiKey;

/// HMAC-SHA-256 of a key's text.
pub(crate) type KeyHash = [u8; 32];

const PEPPER_BYTES: usize = 32;

/// Name of the file in the data folder.
const PEPPER_FILE: &str = "key-pepper";

/// Where the peppers come from.
#[derive(Clone, Debug, Default)]
pub enum PepperSource {
    /// A file in the data folder, which the first start makes.
    #[default]
    DataFolder,
    /// A file that the operator provides. It is never made.
    File(PathBuf),
    /// The lines themselves, separated by line ends or spaces: a secret of the settings.
    Text(SecretString),
}

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
    #[error("line {line} of {place} is not `<version>:<64 hex digits>`")]
    Malformed {
        /// The file or the setting.
        place: String,
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
    /// Reads the peppers from where the settings say. In the data folder, makes the file with one new pepper if there
    /// is none. `keys_exist` says that making a new one would lock everybody out. To be called by one process at a
    /// time.
    pub(crate) fn open(source: &PepperSource, data_dir: &Path, keys_exist: bool) -> Result<Self, PepperError> {
        match source {
            PepperSource::DataFolder => Self::in_file(&data_dir.join(PEPPER_FILE), keys_exist),
            PepperSource::File(path) => {
                let text = std::fs::read_to_string(path);
                let failed = |source| PepperError::Io { path: path.clone(), source };
                Self::parse(&text.map_err(failed)?, &format!("the pepper file {}", path.display()))
            }
            PepperSource::Text(text) => Self::parse(text.expose_secret(), "the setting registry.pepper"),
        }
    }

    fn in_file(path: &Path, keys_exist: bool) -> Result<Self, PepperError> {
        let failed = |source| PepperError::Io { path: path.to_owned(), source };
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &format!("the pepper file {}", path.display())),
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

    fn parse(text: &str, place: &str) -> Result<Self, PepperError> {
        let mut by_version = BTreeMap::new();
        for (index, line) in text.split_whitespace().enumerate() {
            let malformed = || PepperError::Malformed { place: place.to_owned(), line: index + 1 };
            let (version, hex) = line.split_once(':').ok_or_else(malformed)?;
            let version = version.parse::<i32>().map_err(|_| malformed())?;
            let pepper = bytes_of(hex).ok_or_else(malformed)?;
            by_version.insert(version, SecretBox::new(Box::new(pepper)));
        }
        if by_version.is_empty() {
            return Err(PepperError::Malformed { place: place.to_owned(), line: 1 });
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
    let partial = path.with_extension(Uuid::new_v4().simple().to_string());
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&partial)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&partial, path)?;
    // The rename is durable only when its folder is: keys are about to depend on it.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pepper_is_made_once_private_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let open = |keys_exist| Peppers::open(&PepperSource::DataFolder, folder.path(), keys_exist).unwrap();
        let key = ApiKey::generate();
        let first = open(false).hash(1, &key).unwrap();
        assert_eq!(open(true).hash(1, &key), Some(first));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let path = folder.path().join(PEPPER_FILE);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_lost_pepper_is_not_replaced_while_keys_depend_on_it() {
        let folder = tempfile::tempdir().unwrap();
        let opened = Peppers::open(&PepperSource::DataFolder, folder.path(), true);
        assert!(matches!(opened, Err(PepperError::Lost { .. })));
        assert!(!folder.path().join(PEPPER_FILE).exists());
    }

    #[test]
    fn a_pepper_of_the_settings_is_taken_and_never_made() {
        let folder = tempfile::tempdir().unwrap();
        let key = ApiKey::generate();
        let text = line(3, &[3; 32]);
        let of_text = PepperSource::Text(format!("{} {text}", line(1, &[1; 32]).trim()).into());
        let of_text = Peppers::open(&of_text, folder.path(), true).unwrap();
        assert_eq!(of_text.newest_version(), 3);
        let path = folder.path().join("elsewhere");
        let of_file = PepperSource::File(path.clone());
        assert!(matches!(Peppers::open(&of_file, folder.path(), false), Err(PepperError::Io { .. })));
        std::fs::write(&path, &text).unwrap();
        let of_file = Peppers::open(&of_file, folder.path(), false).unwrap();
        assert_eq!(of_file.hash(3, &key), of_text.hash(3, &key));
        assert!(!folder.path().join(PEPPER_FILE).exists());
        let source = PepperSource::Text("7:77".into());
        let message = Peppers::open(&source, folder.path(), false).err().unwrap().to_string();
        assert_eq!(message, "line 1 of the setting registry.pepper is not `<version>:<64 hex digits>`");
        assert!(!format!("{source:?}").contains("77"));
    }

    #[test]
    fn an_added_line_becomes_the_newest_and_old_ones_still_verify() {
        let text = format!("{}{}", line(1, &[1; 32]), line(2, &[2; 32]));
        let peppers = Peppers::parse(&text, "a test").unwrap();
        let key = ApiKey::generate();
        assert_eq!(peppers.newest_version(), 2);
        assert_ne!(peppers.hash(1, &key), peppers.hash(2, &key));
        assert_eq!(peppers.hash(3, &key), None);
        for bad in ["", "1", "1:abcd", "x:00", &format!("1:{}", "é".repeat(32))] {
            assert!(matches!(Peppers::parse(bad, "a test"), Err(PepperError::Malformed { line: 1, .. })), "{bad}");
        }
    }
}
