//! Files that hold a secret.

use std::fs::{File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// A file that only its owner can read, also where it was there before and others could.
pub(crate) struct PrivateFile {
    file: File,
    path: PathBuf,
}

impl PrivateFile {
    /// Makes the file, or opens it and leaves what it holds.
    ///
    /// # Errors
    /// If it cannot be made, written or kept from others.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = file.with_context(|| format!("cannot open {} for a secret", path.display()))?;
        file.set_permissions(Permissions::from_mode(0o600))
            .with_context(|| format!("cannot keep others from reading {}", path.display()))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Replaces what the file holds by one line.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn write(mut self, secret: &str) -> anyhow::Result<()> {
        let written = self.file.set_len(0).and_then(|()| writeln!(self.file, "{secret}"));
        written.with_context(|| format!("cannot write the secret to {}", self.path.display()))
    }
}
