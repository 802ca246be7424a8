//! A look whether a bucket can be used, before anything relies on it: each thing that is needed is done once with an
//! object of its own, and nothing of it stays.

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;
use uuid::Uuid;

use super::bucket::{Bucket, sha256};
use super::failure::{S3Failure, Trouble};
use super::{S3Store, read};

/// What the probe's object holds.
const BYTES: &[u8] = b"Souk looks whether this bucket can be used, and removes this.";

impl S3Store {
    pub(super) async fn probe(&self) -> Result<(), S3Failure> {
        let store = &self.bucket;
        // First what tells a wrong region, a wrong key and a missing bucket apart without a write.
        store.list("probe/").await?;
        let name = format!("probe/{}", Uuid::new_v4().simple());
        let looked = self.probe_with(&name).await;
        let removed = store.delete(&name).await;
        looked?;
        removed?;
        match store.head(&name).await? {
            None => Ok(()),
            Some(_) => Err(store.failure("delete", &name, Trouble::Unsupported("delete objects"), "it is still there")),
        }
    }

    async fn probe_with(&self, name: &str) -> Result<(), S3Failure> {
        let store = &self.bucket;
        let (bytes, sum) = (Bytes::from_static(BYTES), sha256(BYTES));
        store.put(name, bytes.clone(), &sum, true).await?;
        match store.put(name, bytes, &sum, true).await {
            Err(failure) if *failure.trouble() == Trouble::AlreadyThere => {}
            Ok(()) => {
                let trouble = Trouble::Unsupported("honour If-None-Match when it is written to");
                return Err(store.failure("write", name, trouble, "a second object of one name was taken"));
            }
            Err(failure) => return Err(failure),
        }
        let read = self.read_probe(name).await?;
        if read != BYTES {
            let said = format!("{} bytes were written, {} others read", BYTES.len(), read.len());
            return Err(store.failure("read", name, Trouble::WrongBytes, said));
        }
        self.probe_multipart(name).await
    }

    async fn read_probe(&self, name: &str) -> Result<Vec<u8>, S3Failure> {
        let failed = |error: std::io::Error| match error.downcast::<S3Failure>() {
            Ok(failure) => failure,
            Err(error) => self.bucket.failure("read", name, Trouble::Other, error.to_string()),
        };
        let object = read::open(self.bucket.clone(), name.to_owned()).await.map_err(failed)?;
        let mut bytes = Vec::new();
        object.take(2 * BYTES.len() as u64).read_to_end(&mut bytes).await.map_err(failed)?;
        Ok(bytes)
    }

    /// Whether the multipart uploads of a killed registry can be found and ended.
    async fn probe_multipart(&self, name: &str) -> Result<(), S3Failure> {
        let store: &Bucket = &self.bucket;
        let id = store.begin_multipart(name).await?;
        let found = store.multiparts(name).await;
        let ended = store.abort(name, &id).await;
        let found = found?;
        ended?;
        if found.iter().any(|(of, found)| of == name && *found == id) {
            return Ok(());
        }
        Err(store.failure("list the multipart uploads of", name, Trouble::Unsupported("list multipart uploads"), ""))
    }
}
