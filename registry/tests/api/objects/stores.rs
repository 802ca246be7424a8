//! The stores that tests run on.

use std::path::PathBuf;

use souk_protocol::Digest;
use souk_protocol::manifest::blob_path;
use souk_registry::{FolderStore, ObjectSettings, ObjectStore, S3Store};
use souk_testkit_s3::S3Server;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;

pub(super) use crate::support::PART;
use crate::support::s3_at;

/// A store, and a way to get at its objects past it.
pub(super) struct Place<S> {
    pub(super) store: S,
    objects: PathBuf,
    /// Keeps them there.
    _folder: Option<TempDir>,
    pub(super) server: Option<S3Server>,
}

impl<S> Place<S> {
    /// Changes a blob behind the store's back.
    pub(super) fn damage(&self, digest: &Digest, bytes: &[u8]) {
        match &self.server {
            Some(server) => server.damage(&format!("of/tests/{}", blob_path(digest)), bytes),
            None => std::fs::write(self.objects.join(blob_path(digest)), bytes).unwrap(),
        }
    }

    /// How many objects lie aside.
    pub(super) fn num_quarantined(&self) -> usize {
        match &self.server {
            Some(server) => server.names("of/tests/quarantine/").len(),
            None => std::fs::read_dir(self.objects.join("quarantine")).map_or(0, Iterator::count),
        }
    }
}

pub(super) async fn in_folder() -> Place<FolderStore> {
    let folder = tempfile::tempdir().unwrap();
    let store = FolderStore::open(folder.path()).await.unwrap();
    Place { store, objects: folder.path().to_owned(), _folder: Some(folder), server: None }
}

pub(super) async fn in_bucket() -> Place<S3Store> {
    let server = S3Server::start().await;
    let store = S3Store::open(&settings(&server)).await.unwrap();
    Place { store, objects: PathBuf::new(), _folder: None, server: Some(server) }
}

/// Settings for the bucket of a server, with short waits.
pub(crate) fn settings(server: &S3Server) -> ObjectSettings {
    s3_at(server.endpoint())
}

/// Bytes that repeat nowhere near.
pub(super) fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Stages `bytes` in chunks of an odd length and commits them.
pub(super) async fn put(store: &dyn ObjectStore, bytes: &[u8]) -> Digest {
    try_put(store, bytes).await.unwrap()
}

pub(super) async fn try_put(store: &dyn ObjectStore, bytes: &[u8]) -> std::io::Result<Digest> {
    let digest = Digest::of(bytes);
    let mut blob = store.stage("upl_1").await?;
    for chunk in bytes.chunks(1_300_007) {
        blob.write(chunk).await?;
    }
    blob.commit(&digest).await?;
    Ok(digest)
}

pub(super) async fn read(store: &dyn ObjectStore, digest: &Digest) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    store.open(digest).await?.read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// The digests of all blobs.
pub(super) async fn all(store: &dyn ObjectStore) -> Vec<Digest> {
    let mut found = Vec::new();
    for shard in 0..=u8::MAX {
        found.extend(store.list(shard).await.unwrap().into_iter().map(|blob| blob.digest));
    }
    found
}
