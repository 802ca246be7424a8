//! Compares the object store with the database, for an operator: after a restore, a full disk, or a doubt.
//!
//! It works beside running registries, changes nothing unless it is told to, and then removes nothing: an object that
//! nothing refers to is noted, which begins the time after which the collector removes it, and a damaged one is put
//! aside, so that it is missing and whoever publishes the same file again puts it right.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

use sea_orm::{DatabaseConnection, DbErr};
use serde::Serialize;
use souk_protocol::Digest;

use crate::blobs::{in_use, referred_to};
use crate::config::RegistryConfig;
use crate::db::{
    FileRow, MAX_IN, adapters, begin_long_row_write, blobs, hook_versions, installation, upload_blobs, version_files,
    versions,
};
use crate::objects::{self, ObjectStore, OpenObjectsError, StoredBlob, digest_of};
use crate::offline::{OfflineError, open_database};

/// What to look at, and what to do about it.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckOptions {
    /// Whether all bytes are read and compared with their digests.
    pub deep: bool,
    /// Whether orphans are noted and damaged objects put aside.
    pub repair: bool,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Objects that were looked at.
    pub num_objects: u64,
    /// Their length in all.
    pub size_bytes: u64,
    /// Objects that versions refer to and that are not there.
    pub missing: Vec<FoundBlob>,
    /// Objects with another length than versions say.
    pub wrong_size: Vec<FoundBlob>,
    /// Objects whose bytes are not those of their digest; only a deep check finds them.
    pub wrong_digest: Vec<FoundBlob>,
    /// Objects to which nothing refers.
    pub orphans: Vec<FoundBlob>,
    /// Damaged objects that were put aside.
    pub num_quarantined: u64,
    /// Orphans that were noted.
    pub num_noted: u64,
}

/// An object that something is wrong with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FoundBlob {
    /// Its digest.
    pub digest: String,
    /// Its length; `None`: it is not there.
    pub size_bytes: Option<u64>,
    /// What it should be by the database, or by its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The versions of adapters that refer to it, as `owner/name@version file`.
    pub versions: Vec<String>,
}

/// Why nothing could be compared.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// There is no database to work on.
    #[error(transparent)]
    Offline(#[from] OfflineError),
    /// The object store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenObjectsError),
    /// Each belongs to another installation.
    #[error(
        "the database is of installation {database} and the object store of {objects}; check that both settings mean the same installation"
    )]
    Mismatch {
        /// The id in the database.
        database: String,
        /// The id in the store.
        objects: String,
    },
    /// The object store failed.
    #[error("the object store cannot be read")]
    Objects(#[from] io::Error),
    /// The database failed.
    #[error("the registry's database cannot be used")]
    Database(#[from] DbErr),
}

impl CheckReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        [&self.missing, &self.wrong_size, &self.wrong_digest, &self.orphans].iter().all(|found| found.is_empty())
    }
}

/// Compares every object of the installation that `config` describes with the database.
///
/// # Errors
/// [`CheckError`]: nothing is known then, and of what was to be repaired some may be.
pub async fn check_objects(config: &RegistryConfig, options: CheckOptions) -> Result<CheckReport, CheckError> {
    let db = open_database(config).await?;
    let objects = objects::open(&config.objects, config.objects_dir()).await?;
    let check = Check { db: &db, objects: &*objects, options };
    let report = check.run().await;
    // What still has a connection ends with the process.
    db.close_by_ref().await.ok();
    report
}

struct Check<'a> {
    db: &'a DatabaseConnection,
    objects: &'a dyn ObjectStore,
    options: CheckOptions,
}

impl Check<'_> {
    async fn run(&self) -> Result<CheckReport, CheckError> {
        match (installation::id(self.db).await?, self.objects.installation().await?) {
            (Some(database), Some(objects)) if database != objects => {
                return Err(CheckError::Mismatch { database, objects });
            }
            _ => {}
        }
        let mut report = CheckReport::default();
        for shard in 0..=u8::MAX {
            self.shard(shard, &mut report).await?;
        }
        Ok(report)
    }

    /// Compares a 256th.
    async fn shard(&self, shard: u8, report: &mut CheckReport) -> Result<(), CheckError> {
        // Before the store: a version's objects are there before its rows.
        let mut files: BTreeMap<String, Vec<FileRow>> = BTreeMap::new();
        for file in version_files::all_in(self.db, shard).await? {
            files.entry(file.digest.clone()).or_default().push(file);
        }
        for file in self.files_of_hooks(shard).await? {
            files.entry(file.digest.clone()).or_default().push(file);
        }
        let stored = self.objects.list(shard).await?;
        report.num_objects += stored.len() as u64;
        report.size_bytes += stored.iter().map(|blob| blob.size_bytes).sum::<u64>();
        let there: BTreeSet<_> = stored.iter().map(|blob| blob.digest.to_string()).collect();
        for (digest, rows) in files.iter().filter(|(digest, _)| !there.contains(*digest)) {
            if self.is_missing(digest).await? {
                report.missing.push(self.found(digest, None, None, rows).await?);
            }
        }
        let mut unnamed = Vec::new();
        for blob in stored {
            match files.get(&blob.digest.to_string()) {
                Some(rows) => self.stored(&blob, rows, report).await?,
                None => unnamed.push(blob),
            }
        }
        self.orphans(unnamed, report).await
    }

    /// Components of hooks, and what they were compiled to, as files.
    async fn files_of_hooks(&self, shard: u8) -> Result<Vec<FileRow>, DbErr> {
        let file = |version_id: String, name: &str, digest: String, size_bytes| {
            let name = name.to_owned();
            FileRow { version_id, name, digest, size_bytes }
        };
        let versions = hook_versions::all_in(self.db, shard).await?.into_iter();
        let components = versions.map(|row| file(row.id, "component.wasm", row.digest, row.size_bytes));
        let artifacts = hook_versions::all_compiled_in(self.db, shard).await?.into_iter();
        let artifacts =
            artifacts.filter_map(|row| Some(file(row.id, "artifact", row.artifact_digest?, row.artifact_bytes)));
        Ok(components.chain(artifacts).collect())
    }

    /// Whether an object that was not listed is missing at a second look, too, and still referred to.
    async fn is_missing(&self, digest: &str) -> Result<bool, CheckError> {
        let one = [digest.to_owned()];
        let Ok(parsed) = digest.parse() else { return Ok(true) };
        let is_absent = match self.objects.open(&parsed).await {
            Ok(_) => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error.into()),
        };
        Ok(is_absent && referred_to(self.db, &one).await?.contains(digest))
    }

    /// Looks at an object that versions refer to.
    async fn stored(&self, blob: &StoredBlob, rows: &[FileRow], report: &mut CheckReport) -> Result<(), CheckError> {
        let digest = blob.digest.to_string();
        let expected = rows.iter().map(|row| row.size_bytes).find(|size| u64::try_from(*size) != Ok(blob.size_bytes));
        let found = if let Some(size) = expected {
            let found = self.found(&digest, Some(blob.size_bytes), Some(format!("{size} bytes")), rows).await?;
            report.wrong_size.push(found);
            true
        } else if self.options.deep
            && let Some(wrong) = self.wrong_digest(&blob.digest).await?
        {
            let found = self.found(&digest, Some(blob.size_bytes), Some(format!("the bytes of {wrong}")), rows).await?;
            report.wrong_digest.push(found);
            true
        } else {
            false
        };
        if found && self.options.repair && self.put_aside(&blob.digest).await? {
            report.num_quarantined += 1;
        }
        Ok(())
    }

    /// The digest that an object's bytes have, if it is another; `None` too if it is not there any more.
    async fn wrong_digest(&self, digest: &Digest) -> io::Result<Option<Digest>> {
        match self.objects.open(digest).await {
            Ok(bytes) => Ok(Some(digest_of(bytes).await?).filter(|found| found != digest)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a damaged object aside, unless an upload is about to put it right; answers whether it did.
    async fn put_aside(&self, digest: &Digest) -> Result<bool, CheckError> {
        let name = digest.to_string();
        // Uploads that begin to count on the object wait for its row while its bytes are read once more.
        let transaction = begin_long_row_write(self.db).await?;
        blobs::rely_on(&transaction, std::slice::from_ref(&name)).await?;
        let is_counted_on = upload_blobs::counted_on(&transaction, std::slice::from_ref(&name)).await?.contains(&name);
        let is_still_damaged = !is_counted_on && self.wrong_digest(digest).await?.is_some();
        let is_aside = is_still_damaged && self.objects.quarantine(digest).await?;
        let one = [name];
        if !in_use(&transaction, &one).await?.contains(&one[0]) {
            // Its last version was deleted meanwhile, and what that had said of the row is said again.
            blobs::release(&transaction, &one).await?;
        }
        transaction.commit().await?;
        Ok(is_aside)
    }

    /// Which of the objects that no version refers to nobody counts on either.
    async fn orphans(&self, unnamed: Vec<StoredBlob>, report: &mut CheckReport) -> Result<(), CheckError> {
        for some in unnamed.chunks(MAX_IN) {
            let names: Vec<_> = some.iter().map(|blob| blob.digest.to_string()).collect();
            let in_use = in_use(self.db, &names).await?;
            for (blob, digest) in some.iter().zip(names).filter(|(_, name)| !in_use.contains(name)) {
                if self.options.repair && blobs::note_orphan(self.db, &digest).await? {
                    report.num_noted += 1;
                }
                let found =
                    FoundBlob { digest, size_bytes: Some(blob.size_bytes), expected: None, versions: Vec::new() };
                report.orphans.push(found);
            }
        }
        Ok(())
    }

    async fn found(
        &self,
        digest: &str,
        size_bytes: Option<u64>,
        expected: Option<String>,
        rows: &[FileRow],
    ) -> Result<FoundBlob, DbErr> {
        let ids = rows.iter().map(|row| row.version_id.as_str());
        let versions = versions::by_ids(self.db, ids.collect::<BTreeSet<_>>()).await?;
        let adapter_ids: BTreeSet<_> = versions.iter().map(|version| version.adapter_id.as_str()).collect();
        let adapters: HashMap<_, _> = adapters::by_ids(self.db, adapter_ids)
            .await?
            .into_iter()
            .map(|adapter| (adapter.id.clone(), adapter))
            .collect();
        let mut named = Vec::new();
        for row in rows {
            let version = versions.iter().find(|version| version.id == row.version_id);
            let adapter = version.and_then(|version| adapters.get(&version.adapter_id));
            if let (Some(version), Some(adapter)) = (version, adapter) {
                named.push(format!("{}/{}@{} {}", adapter.owner, adapter.name, version.version, row.name));
            }
        }
        named.sort();
        Ok(FoundBlob { digest: digest.to_owned(), size_bytes, expected, versions: named })
    }
}
