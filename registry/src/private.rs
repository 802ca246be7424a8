//! Keeps the data folder from others: it has the pepper, hashes of keys, and private adapters.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// Rights of the folder: its owner's alone.
const FOLDER_MODE: u32 = 0o700;
/// Rights of the database's files.
const FILE_MODE: u32 = 0o600;
/// Room that a start needs beside what is there: for the files that SQLite makes, and the first rows.
const ROOM_BYTES: usize = 512 * 1024;
/// On a folder in which everybody may make files, such as `/tmp`.
const STICKY: u32 = 0o1000;

/// Makes the folder, or takes the rights of others on it away.
pub(crate) fn folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        tighten(path, FOLDER_MODE);
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)
}

/// Makes sure that something can be written in the folder before anything is begun there: a database that cannot grow
/// fails in words that tell nobody why.
pub(crate) fn is_writable(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".room.{}", Uuid::new_v4().simple()));
    let written = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path).and_then(|mut file| {
        file.write_all(&vec![0; ROOM_BYTES])?;
        file.sync_all()
    });
    match std::fs::remove_file(&path) {
        Err(error) if written.is_ok() => Err(error),
        _ => written,
    }
}

/// Bytes that are free where the folder is.
pub(crate) async fn free_bytes(folder: PathBuf) -> io::Result<u64> {
    // A network file system may take its time.
    let found = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&folder)).await.map_err(io::Error::other)??;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Makes an empty file for the database where there is none, so that it is nobody else's from the start, and takes the
/// rights of others on it away. SQLite gives the files beside it the same rights; those of an earlier start are
/// tightened here.
pub(crate) fn database(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    for beside in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(beside);
        tighten(Path::new(&file), FILE_MODE);
    }
    Ok(())
}

/// Takes away what `mode` does not have. Where that is not ours to do, it is said and the start goes on.
fn tighten(path: &Path, mode: u32) {
    let Ok(found) = std::fs::metadata(path) else { return };
    let given = found.mode() & 0o7777;
    if given & 0o777 & !mode == 0 {
        return;
    }
    let shown = path.display();
    if given & STICKY != 0 {
        tracing::warn!(path = %shown, "Others may look into {shown}, which is everybody's folder; choose one of its own");
        return;
    }
    match std::fs::set_permissions(path, Permissions::from_mode(given & mode)) {
        Ok(()) => {
            tracing::warn!(path = %shown, "Took from others the right to {shown}: it had {given:03o} and has {:03o}", given & mode);
        }
        Err(error) => tracing::warn!(path = %shown, %error, "Others may look into {shown}, and that cannot be changed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("it is there").mode() & 0o7777
    }

    fn set(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
    }

    #[test]
    fn folder_and_database_are_made_private_and_those_of_earlier_starts_are_tightened() {
        let root = tempfile::tempdir().expect("a folder");
        let (data, file) = (root.path().join("a/data"), root.path().join("a/data/registry.sqlite"));
        folder(&data).expect("it can be made");
        database(&file).expect("it can be made");
        assert_eq!((mode(&data), mode(&file)), (0o700, 0o600));
        let wal = root.path().join("a/data/registry.sqlite-wal");
        std::fs::write(&wal, "").expect("a file");
        set(&data, 0o755);
        set(&file, 0o644);
        set(&wal, 0o664);
        folder(&data).expect("it is there");
        database(&file).expect("it is there");
        assert_eq!([mode(&data), mode(&file), mode(&wal)], [0o700, 0o600, 0o600]);
    }

    #[test]
    fn a_folder_of_everybody_and_a_narrower_one_stay_as_they_are() {
        let root = tempfile::tempdir().expect("a folder");
        for given in [0o1777, 0o500] {
            set(root.path(), given);
            folder(root.path()).expect("it is there");
            assert_eq!(mode(root.path()), given);
        }
        set(root.path(), 0o700);
    }
}
