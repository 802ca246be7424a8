//! Secrets of the installation: 32 bytes each, under numbers, from the settings, a file of the operator's, or a file in
//! the data folder.
//!
//! One line `<version>:<64 hex digits>` per secret. The highest version makes what is new; older ones still open what
//! was made under them, so a secret is rotated by adding a line. All registries of one database need the same.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use uuid::Uuid;

/// Bytes of a secret.
pub(crate) const SECRET_BYTES: usize = 32;

/// What a kind of secret is called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SecretKind {
    /// In a sentence.
    pub(crate) what: &'static str,
    /// The setting that may hold it.
    pub(crate) setting: &'static str,
    /// Its file in the data folder.
    pub(crate) file: &'static str,
    /// What it opens, which is lost without it.
    pub(crate) opens: &'static str,
}

/// Where secrets come from.
#[derive(Clone, Debug, Default)]
pub enum SecretSource {
    /// A file in the data folder, which the first start makes.
    #[default]
    DataFolder,
    /// A file that the operator provides. It is never made.
    File(PathBuf),
    /// The lines themselves, separated by line ends or spaces: a secret of the settings.
    Text(SecretString),
}

/// All secrets of one kind, by version.
pub(crate) struct Secrets {
    by_version: BTreeMap<i32, SecretBox<[u8; SECRET_BYTES]>>,
}

/// Why secrets cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read or made.
    #[error("the {what} file {path} cannot be used")]
    Io {
        /// What the secret is.
        what: &'static str,
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
    /// What it opens is there, and it is not.
    #[error(
        "the {what} file {path} is missing while the database has {opens} that need it; restore it from a backup, or none of them will work"
    )]
    Lost {
        /// What the secret is.
        what: &'static str,
        /// What it opens.
        opens: &'static str,
        /// The file.
        path: PathBuf,
    },
}

impl SecretSource {
    /// From a setting that holds them and one that names a file, of which at most one is not empty.
    pub(crate) fn of_settings(text: &SecretString, file: &Path) -> Self {
        if !text.expose_secret().is_empty() {
            Self::Text(text.clone())
        } else if file.as_os_str().is_empty() {
            Self::DataFolder
        } else {
            Self::File(file.to_owned())
        }
    }
}

impl Secrets {
    /// Reads them from where the settings say. In the data folder, makes the file with one new secret if there is none.
    /// `are_needed` says that something exists which a new one would not open. To be called by one process at a time.
    pub(crate) fn open(
        kind: SecretKind,
        source: &SecretSource,
        data_dir: &Path,
        are_needed: bool,
    ) -> Result<Self, SecretError> {
        match source {
            SecretSource::DataFolder => Self::in_file(kind, &data_dir.join(kind.file), are_needed),
            SecretSource::File(path) => {
                let text = std::fs::read_to_string(path);
                let failed = |source| SecretError::Io { what: kind.what, path: path.clone(), source };
                Self::parse(&text.map_err(failed)?, &format!("the {} file {}", kind.what, path.display()))
            }
            SecretSource::Text(text) => Self::parse(text.expose_secret(), &format!("the setting {}", kind.setting)),
        }
    }

    fn in_file(kind: SecretKind, path: &Path, are_needed: bool) -> Result<Self, SecretError> {
        let failed = |source| SecretError::Io { what: kind.what, path: path.to_owned(), source };
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &format!("the {} file {}", kind.what, path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound && are_needed => {
                Err(SecretError::Lost { what: kind.what, opens: kind.opens, path: path.to_owned() })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let secret: [u8; SECRET_BYTES] = rand::random();
                write_secret(path, &line(1, &secret)).map_err(failed)?;
                Ok(Self { by_version: BTreeMap::from([(1, SecretBox::new(Box::new(secret)))]) })
            }
            Err(error) => Err(failed(error)),
        }
    }

    pub(crate) fn parse(text: &str, place: &str) -> Result<Self, SecretError> {
        let mut by_version = BTreeMap::new();
        for (index, line) in text.split_whitespace().enumerate() {
            let malformed = || SecretError::Malformed { place: place.to_owned(), line: index + 1 };
            let (version, hex) = line.split_once(':').ok_or_else(malformed)?;
            let version = version.parse::<i32>().map_err(|_| malformed())?;
            let secret = bytes_of(hex).ok_or_else(malformed)?;
            by_version.insert(version, SecretBox::new(Box::new(secret)));
        }
        if by_version.is_empty() {
            return Err(SecretError::Malformed { place: place.to_owned(), line: 1 });
        }
        Ok(Self { by_version })
    }

    /// The version that makes what is new.
    pub(crate) fn newest_version(&self) -> i32 {
        *self.by_version.last_key_value().expect("a file without a secret is refused").0
    }

    /// The secret of one version, if this installation has it.
    pub(crate) fn version(&self, version: i32) -> Option<&[u8; SECRET_BYTES]> {
        self.by_version.get(&version).map(|secret| secret.expose_secret())
    }
}

fn line(version: i32, secret: &[u8]) -> String {
    let mut text = format!("{version}:");
    for byte in secret {
        write!(text, "{byte:02x}").expect("writing to a string succeeds");
    }
    text.push('\n');
    text
}

fn bytes_of(hex: &str) -> Option<[u8; SECRET_BYTES]> {
    if hex.len() != SECRET_BYTES * 2 || !hex.is_ascii() {
        return None;
    }
    let mut bytes = [0; SECRET_BYTES];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[index * 2..index * 2 + 2], 16).ok()?;
    }
    Some(bytes)
}

/// Makes the file, readable by its owner alone, under a temporary name first: a crash leaves no half secret behind.
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

    const KIND: SecretKind =
        SecretKind { what: "pepper", setting: "registry.pepper", file: "key-pepper", opens: "API keys" };

    fn open(source: &SecretSource, folder: &Path, are_needed: bool) -> Result<Secrets, SecretError> {
        Secrets::open(KIND, source, folder, are_needed)
    }

    #[test]
    fn the_file_is_made_once_private_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(&SecretSource::DataFolder, folder.path(), false).unwrap();
        let again = open(&SecretSource::DataFolder, folder.path(), true).unwrap();
        assert_eq!(again.version(1), first.version(1));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let path = folder.path().join(KIND.file);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_lost_one_is_not_replaced_while_something_depends_on_it() {
        let folder = tempfile::tempdir().unwrap();
        let lost = open(&SecretSource::DataFolder, folder.path(), true);
        assert!(matches!(lost, Err(SecretError::Lost { .. })));
        assert!(!folder.path().join(KIND.file).exists());
    }

    #[test]
    fn one_of_the_settings_is_taken_and_never_made() {
        let folder = tempfile::tempdir().unwrap();
        let text = line(3, &[3; 32]);
        let of_text = SecretSource::Text(format!("{} {text}", line(1, &[1; 32]).trim()).into());
        let of_text = open(&of_text, folder.path(), true).unwrap();
        assert_eq!(of_text.newest_version(), 3);
        let path = folder.path().join("elsewhere");
        let of_file = SecretSource::File(path.clone());
        assert!(matches!(open(&of_file, folder.path(), false), Err(SecretError::Io { .. })));
        std::fs::write(&path, &text).unwrap();
        let of_file = open(&of_file, folder.path(), false).unwrap();
        assert_eq!(of_file.version(3), of_text.version(3));
        assert!(!folder.path().join(KIND.file).exists());
        let source = SecretSource::Text("7:77".into());
        let message = open(&source, folder.path(), false).err().unwrap().to_string();
        assert_eq!(message, "line 1 of the setting registry.pepper is not `<version>:<64 hex digits>`");
        assert!(!format!("{source:?}").contains("77"));
    }

    #[test]
    fn an_added_line_becomes_the_newest_and_old_ones_stay() {
        let text = format!("{}{}", line(1, &[1; 32]), line(2, &[2; 32]));
        let secrets = Secrets::parse(&text, "a test").unwrap();
        assert_eq!(secrets.newest_version(), 2);
        assert_ne!(secrets.version(1), secrets.version(2));
        assert_eq!(secrets.version(3), None);
        for bad in ["", "1", "1:abcd", "x:00", &format!("1:{}", "é".repeat(32))] {
            assert!(matches!(Secrets::parse(bad, "a test"), Err(SecretError::Malformed { line: 1, .. })), "{bad}");
        }
    }
}
