//! Blobs as objects of a bucket, under the names that the folder has too, below a prefix: `sha256/ab/abcdef…`,
//! `staging/<upload>.<random>`, `quarantine/…` and `installation`.
//!
//! A small blob goes to its digest in one conditional request, which carries its SHA-256. A large one is a multipart
//! upload below `staging/`, each part with its SHA-256; when it is complete the server copies it to its digest. What a
//! killed registry leaves there is found by listing, as with the folder.
//!
//! Every request has an end and a bounded number of tries; reading goes on from where it broke off (`read`).
//! `Registry::open` asks the server for everything that is needed before anything relies on it (`probe`).

mod client;
mod failure;

mod bucket;
mod multipart;

mod staged;

mod direct;
mod probe;
mod read;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::presigning::PresigningConfig;
use bytes::Bytes;
use souk_protocol::Digest;
use souk_protocol::manifest::blob_path;
use tokio::io::AsyncReadExt as _;
use uuid::Uuid;

pub use failure::{S3Failure, Trouble};

use super::settings::{ObjectSettings, Place};
use super::{BlobReader, DirectUploads, ObjectStore, StagedBlob, StoredBlob, another_installation};
use bucket::{Bucket, Listed, sha256};
use staged::S3Staged;

/// The object with the id of the installation.
const INSTALLATION: &str = "installation";
/// Longest id of an installation that is read.
const INSTALLATION_BYTES: u64 = 256;

/// An object store in a bucket of an S3 server. Cheap to clone: a clone is the same store.
#[derive(Clone, Debug)]
pub struct S3Store {
    bucket: Arc<Bucket>,
}

impl S3Store {
    /// A store in the bucket of `settings`, after a look whether it can be used: see `probe`. What that writes it
    /// removes.
    ///
    /// # Errors
    /// [`S3Failure`], with what to do about it. `settings` that mean a folder are such a failure too.
    pub async fn open(settings: &ObjectSettings) -> Result<Self, S3Failure> {
        let store = Self::new(settings).await?;
        store.probe().await?;
        Ok(store)
    }

    async fn new(settings: &ObjectSettings) -> Result<Self, S3Failure> {
        let place = settings.place();
        let (bucket, prefix) = match place {
            Ok(Place::Bucket { bucket, prefix }) => (bucket, prefix),
            Ok(Place::Folder) | Err(_) => (String::new(), String::new()),
        };
        let (client, address) = client::client(settings, bucket).await?;
        if address.bucket.is_empty() {
            return Err(S3Failure::new("begin", &address, Trouble::NoSuchBucket, "objects.url names none"));
        }
        let settings = settings.clone();
        Ok(Self { bucket: Arc::new(Bucket { client, address, prefix, settings }) })
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn stage(&self, upload: &str) -> io::Result<Box<dyn StagedBlob>> {
        let name = format!("staging/{upload}.{}", Uuid::new_v4().simple());
        Ok(Box::new(S3Staged::new(self.bucket.clone(), name)))
    }

    async fn staged(&self) -> io::Result<Vec<String>> {
        let objects = self.bucket.list("staging/").await?.into_iter().map(|listed| listed.name);
        let running = self.bucket.multiparts("staging/").await?.into_iter().map(|(name, _)| name);
        let uploads: BTreeSet<_> =
            objects.chain(running).filter_map(|name| upload_of(&name).map(str::to_owned)).collect();
        Ok(uploads.into_iter().collect())
    }

    async fn discard(&self, upload: &str) -> io::Result<usize> {
        let start = format!("staging/{upload}.");
        let mut num_discarded = 0;
        // Running ones first: one that is completed in between is then among the objects.
        for (name, id) in self.bucket.multiparts(&start).await? {
            num_discarded += usize::from(self.bucket.abort(&name, &id).await?);
        }
        for listed in self.bucket.list(&start).await? {
            self.bucket.delete(&listed.name).await?;
            num_discarded += 1;
        }
        Ok(num_discarded)
    }

    async fn open(&self, digest: &Digest) -> io::Result<BlobReader> {
        read::open(self.bucket.clone(), blob_path(digest)).await
    }

    async fn address(&self, digest: &Digest, good_for: Duration) -> io::Result<Option<String>> {
        let (store, name) = (&self.bucket, blob_path(digest));
        let expires = PresigningConfig::expires_in(good_for).map_err(io::Error::other)?;
        let request = store.client.get_object().bucket(&store.address.bucket).key(store.key(&name));
        let signed =
            request.presigned(expires).await.map_err(|error| store.failed("sign an address of", &name, &error))?;
        Ok(Some(signed.uri().to_owned()))
    }

    async fn remove(&self, digest: &Digest) -> io::Result<()> {
        Ok(self.bucket.delete(&blob_path(digest)).await?)
    }

    async fn quarantine(&self, digest: &Digest) -> io::Result<bool> {
        let aside = format!("quarantine/{}.{}", digest.to_string().replace(':', "-"), Uuid::new_v4().simple());
        match self.bucket.copy(&blob_path(digest), &aside).await {
            Ok(_) => {}
            Err(failure) if *failure.trouble() == Trouble::NoSuchObject => return Ok(false),
            Err(failure) => return Err(failure.into()),
        }
        self.bucket.delete(&blob_path(digest)).await?;
        Ok(true)
    }

    async fn list(&self, shard: u8) -> io::Result<Vec<StoredBlob>> {
        let start = format!("sha256/{shard:02x}/");
        let listed = self.bucket.list(&start).await?;
        // What is not named like a blob is not ours to judge.
        let blob = |listed: Listed| {
            let digest = format!("sha256:{}", listed.name.strip_prefix(&start)?).parse::<Digest>().ok()?;
            Some(StoredBlob { digest, size_bytes: listed.size_bytes, age: listed.age })
        };
        Ok(listed.into_iter().filter_map(blob).collect())
    }

    async fn has_blobs(&self) -> io::Result<bool> {
        let store = &self.bucket;
        let request = store.client.list_objects_v2().bucket(&store.address.bucket).prefix(store.key("sha256/"));
        let page = request.max_keys(1).send().await.map_err(|error| store.failed("list", "sha256/", &error))?;
        Ok(!page.contents().is_empty())
    }

    fn direct(&self) -> Option<&dyn DirectUploads> {
        Some(self)
    }

    /// A bucket has no end that it tells of.
    async fn free_bytes(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    async fn installation(&self) -> io::Result<Option<String>> {
        let object = match read::open(self.bucket.clone(), INSTALLATION.to_owned()).await {
            Ok(object) => object,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        object.take(INSTALLATION_BYTES).read_to_string(&mut text).await?;
        Ok(Some(text.trim().to_owned()))
    }

    async fn set_installation(&self, id: &str) -> io::Result<()> {
        let text = Bytes::from(format!("{id}\n"));
        let sum = sha256(&text);
        match self.bucket.put(INSTALLATION, text, &sum, true).await {
            Ok(()) => Ok(()),
            // Another registry was first, or a first try of this request was, whose answer was lost.
            Err(failure) if *failure.trouble() == Trouble::AlreadyThere => match self.installation().await? {
                Some(found) if found == id => Ok(()),
                found => Err(another_installation(id, &found.unwrap_or_default())),
            },
            Err(failure) => Err(failure.into()),
        }
    }
}

/// The upload that something staged belongs to, by its name.
fn upload_of(name: &str) -> Option<&str> {
    name.strip_prefix("staging/")?.split('.').next()
}
