//! Files that hold a secret.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// A file that only its owner can read, also where there was one before that others could: that one is replaced, so
/// whoever has it open reads nothing of the secret, and a link is never followed.
pub(crate) struct PrivateFile {
    file: File,
    /// Where it is until it is written. Removed if it never is.
    partial: Partial,
    path: PathBuf,
}

struct Partial(PathBuf);

impl PrivateFile {
    /// Makes the file, out of sight; what is at `path` stays until [`write`](Self::write).
    ///
    /// # Errors
    /// If it cannot be made, or if `path` is something other than a file: a link, a folder or a device.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.is_file() => {
                let kind = if found.is_symlink() { "a link" } else { "no file" };
                anyhow::bail!("{} is {kind}, and a secret is written to a file alone", path.display());
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot look at {}", path.display())),
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(format!(".{}", std::process::id()));
        let partial = PathBuf::from(partial);
        // Never one that is there, whatever it is.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial);
        let file = file.with_context(|| format!("cannot make {} for a secret", partial.display()))?;
        Ok(Self { file, partial: Partial(partial), path: path.to_owned() })
    }

    /// Replaces what is at the path by one line.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn write(mut self, secret: &str) -> anyhow::Result<()> {
        let written = writeln!(self.file, "{secret}").and_then(|()| self.file.sync_all());
        let placed = written.and_then(|()| std::fs::rename(&self.partial.0, &self.path));
        placed.with_context(|| format!("cannot write the secret to {}", self.path.display()))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone already once it was renamed.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn files(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("a folder");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_that_others_could_read_is_replaced_and_keeps_nothing_of_theirs() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        std::fs::write(&path, "an older and longer text").expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("ours");
        let mut held_open = File::open(&path).expect("a file");
        PrivateFile::open(&path).expect("it can be made").write("secret").expect("it can be written");
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), "secret\n");
        assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        let mut seen = String::new();
        io::Read::read_to_string(&mut held_open, &mut seen).expect("a file");
        assert_eq!(seen, "an older and longer text");
        assert_eq!(files(folder.path()), ["key"]);
    }

    #[test]
    fn links_and_folders_are_refused_and_nothing_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("target");
        std::fs::write(&target, "theirs").expect("a file");
        for (link, to) in [("link", target.as_path()), ("dangling", Path::new("nowhere"))] {
            std::os::unix::fs::symlink(to, folder.path().join(link)).expect("a link");
            let refused = PrivateFile::open(&folder.path().join(link)).err().expect("a link").to_string();
            assert!(refused.contains("is a link"), "{refused}");
        }
        assert!(PrivateFile::open(folder.path()).is_err());
        assert_eq!(std::fs::read_to_string(&target).expect("a file"), "theirs");
        drop(PrivateFile::open(&folder.path().join("unwritten")).expect("it can be made"));
        assert_eq!(files(folder.path()), ["dangling", "link", "target"]);
    }
}
