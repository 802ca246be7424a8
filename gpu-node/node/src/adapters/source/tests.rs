use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::super::samples::adapter_files;
use super::*;

const PLENTY: u64 = 1 << 20;

/// A folder with one version in it, and the version's digest.
fn folder() -> (TempDir, AdapterFiles, Digest) {
    let folder = tempfile::tempdir().unwrap();
    let files = adapter_files(2, &json!({}));
    for bytes in [&files.manifest.canonical_bytes(), &files.config, &files.weights] {
        write(&folder, &Digest::of(bytes), bytes);
    }
    let digest = files.manifest.digest();
    (folder, files, digest)
}

fn write(folder: &TempDir, digest: &Digest, bytes: &[u8]) {
    let path = folder.path().join(blob_path(digest));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

async fn fetch(folder: &TempDir, digest: &Digest) -> Result<AdapterFiles, SourceError> {
    FolderSource::new(folder.path()).fetch(&Fetchable { digest: *digest, grant: None }, PLENTY).await
}

#[tokio::test]
async fn a_version_is_read_as_it_was_published() {
    let (folder, files, digest) = folder();
    let read = fetch(&folder, &digest).await.unwrap();
    assert_eq!((read.manifest, read.config, read.weights), (files.manifest, files.config, files.weights));
    assert!(matches!(fetch(&folder, &Digest::of(b"other")).await, Err(SourceError::NotFound(_))));
}

#[tokio::test]
async fn damage_to_any_file_is_found() {
    for (index, name) in ["the manifest", CONFIG_FILE, WEIGHTS_FILE].into_iter().enumerate() {
        let (folder, files, digest) = folder();
        let (target, bytes) = match index {
            0 => (digest, files.manifest.canonical_bytes()),
            1 => (files.manifest.config.digest, files.config),
            _ => (files.manifest.weights.digest, files.weights),
        };
        let mut flipped = bytes.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let longer = [&bytes[..], b"x"].concat();
        for damaged in [&flipped[..], &bytes[..bytes.len() - 1], &longer, b""] {
            write(&folder, &target, damaged);
            let error = fetch(&folder, &digest).await.unwrap_err();
            assert!(matches!(&error, SourceError::Corrupt { file, .. } if *file == name), "{name}: {error}");
        }
        if index > 0 {
            fs::remove_file(folder.path().join(blob_path(&target))).unwrap();
            let error = fetch(&folder, &digest).await.unwrap_err();
            assert!(error.to_string().ends_with("found no file"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_manifest_that_says_too_much_is_refused_before_anything_is_read() {
    let (folder, files, _) = folder();
    let large = FileEntry { size_bytes: PLENTY + 1, ..files.manifest.weights.clone() };
    let with_large = AdapterManifest::new(files.manifest.base, files.manifest.config.clone(), large);
    let mut other_schema = files.manifest.clone();
    other_schema.schema = 2;
    let mut large_config = files.manifest.clone();
    large_config.config.size_bytes = 1 << 30;
    for manifest in [&with_large, &other_schema, &large_config] {
        write(&folder, &manifest.digest(), &manifest.canonical_bytes());
    }
    let error = fetch(&folder, &with_large.digest()).await.unwrap_err();
    assert!(matches!(error, SourceError::TooLarge { limit_bytes: PLENTY, given_bytes } if given_bytes == PLENTY + 1));
    assert!(matches!(fetch(&folder, &other_schema.digest()).await, Err(SourceError::Manifest(_))));
    assert!(matches!(fetch(&folder, &large_config.digest()).await, Err(SourceError::Manifest(_))));
    write(&folder, &Digest::of(b"[]"), b"[]");
    assert!(matches!(fetch(&folder, &Digest::of(b"[]")).await, Err(SourceError::Manifest(_))));
}
