//! Takes the parts of an upload in.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use semver::Version;
use sha2::{Digest as _, Sha256};
use souk_protocol::{Digest, FileEntry};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use super::parts::{Goes, PartSpec, Parts, Scanner};
use crate::error::{Finding, RegistryError};
use crate::objects::{BlobReader, ObjectStore, StagedBlob};
use crate::room::Claim;
use crate::words::parse_version;

/// Name of the first part.
const VERSION_PART: &str = "version";
/// Bytes that are read from the store between two looks: what is hashed and measured in a few milliseconds.
const LOOK_BYTES: usize = 1 << 20;
/// Longest version number that is read; what is longer is refused by the parser of versions.
const VERSION_BYTES: u64 = 256;

/// Reads the parts of one upload, in the order in which they come.
pub(crate) struct Receiver<'a> {
    parts: &'a mut dyn Parts,
    specs: Vec<PartSpec>,
    /// For the one part that is staged.
    scanner: Option<Scanner>,
    idle: Duration,
    /// What is said to come before the files.
    first: &'static str,
}

/// Where large parts go.
pub(crate) struct Store<'a> {
    pub(crate) objects: &'a dyn ObjectStore,
    /// The upload for which they are staged.
    pub(crate) upload_id: &'a str,
    /// The room that the upload counts on.
    pub(crate) claim: &'a mut Claim,
}

/// All parts, checked for presence and size and nothing else.
pub(crate) struct Received {
    /// Parts in memory, by name.
    held: BTreeMap<&'static str, Vec<u8>>,
    /// The part that went to the object store, with its name.
    staged: Option<(&'static str, Staged)>,
}

/// A large part, staged and not visible yet.
pub(crate) struct Staged {
    pub(crate) blob: Box<dyn StagedBlob>,
    pub(crate) entry: FileEntry,
    pub(crate) scanner: Scanner,
}

impl Received {
    /// A digest over all that was sent, however it was cut into parts and chunks, and over `of`, which it is for.
    pub(crate) fn fingerprint(&self, of: &str) -> Digest {
        let held = self.held.iter().map(|(name, bytes)| (*name, Digest::of(bytes)));
        let staged = self.staged.iter().map(|(name, staged)| (*name, staged.entry.digest));
        let mut parts: Vec<_> = held.chain(staged).collect();
        parts.sort_unstable();
        let lines = parts.iter().map(|(name, digest)| format!("{name}: {digest}\n"));
        Digest::of(format!("{of}\n{}", lines.collect::<String>()).as_bytes())
    }

    /// Adds the part that is in the object store already.
    pub(super) fn with_staged(self, name: &'static str, staged: Staged) -> Self {
        Self { staged: Some((name, staged)), ..self }
    }

    /// The parts in memory, by name.
    pub(super) fn held(&self) -> &BTreeMap<&'static str, Vec<u8>> {
        &self.held
    }

    /// A part that is held in memory.
    pub(crate) fn take(&mut self, name: &'static str) -> Result<Vec<u8>, RegistryError> {
        self.held.remove(name).ok_or_else(|| missing_parts([name]))
    }

    /// The part that was staged.
    pub(super) fn take_staged(&mut self, name: &'static str) -> Result<Staged, RegistryError> {
        let staged = self.staged.take().filter(|(staged, _)| *staged == name);
        staged.map(|(_, staged)| staged).ok_or_else(|| missing_parts([name]))
    }
}

impl<'a> Receiver<'a> {
    /// `scanner` looks at the part that is staged; a source of parts that sends nothing for `idle` is given up.
    pub(super) fn new(parts: &'a mut dyn Parts, specs: Vec<PartSpec>, scanner: Scanner, idle: Duration) -> Self {
        Self { parts, specs, scanner: Some(scanner), idle, first: "`version`, " }
    }

    /// The same for small parts alone, without a version number before them.
    pub(super) fn of_small(parts: &'a mut dyn Parts, specs: Vec<PartSpec>, idle: Duration) -> Self {
        let specs = specs.into_iter().filter(|spec| spec.goes == Goes::IntoMemory).collect();
        Self { parts, specs, scanner: None, idle, first: "" }
    }

    /// The same for parts that are held in memory, after the version number.
    pub(crate) fn of_held(parts: &'a mut dyn Parts, specs: Vec<PartSpec>, idle: Duration) -> Self {
        Self { first: "`version`, ", ..Self::of_small(parts, specs, idle) }
    }

    /// Reads the first part, which is the version number: it is reserved before anything large is taken.
    pub(crate) async fn version(&mut self) -> Result<Version, RegistryError> {
        if self.next_part().await?.as_deref() != Some(VERSION_PART) {
            let detail = "the first part of an upload is `version`, for example 1.0.0";
            return Err(RegistryError::bad_request("version_first", detail));
        }
        let bytes = self.read_all(VERSION_PART, VERSION_BYTES, None).await?;
        let text = String::from_utf8_lossy(&bytes);
        parse_version(&text).map_err(|detail| RegistryError::BadRequest {
            code: "invalid_version",
            detail: detail.clone(),
            findings: vec![Finding::field(VERSION_PART, detail)],
        })
    }

    /// Most bytes that all parts together may have, with some for what is between them.
    pub(crate) fn most_bytes(&self) -> u64 {
        self.specs.iter().map(|spec| spec.limit_bytes).sum::<u64>().saturating_add(64 << 10)
    }

    /// Reads the files, in any order. Large ones are staged in `store`; without a store they are only hashed.
    pub(crate) async fn receive(&mut self, mut store: Option<Store<'_>>) -> Result<Received, RegistryError> {
        let mut received = Received { held: BTreeMap::new(), staged: None };
        let mut seen = Vec::new();
        while let Some(name) = self.next_part().await? {
            let spec = self.specs.iter().find(|spec| spec.name == name && !seen.contains(&spec.name));
            let Some(&PartSpec { name, limit_bytes, goes, .. }) = spec else {
                return Err(self.unexpected_part(&name));
            };
            seen.push(name);
            match goes {
                Goes::IntoMemory => {
                    _ = received.held.insert(name, self.read_all(name, limit_bytes, store.as_mut()).await?);
                }
                Goes::IntoBlob => {
                    received.staged = Some((name, self.read_staged(name, limit_bytes, store.as_mut()).await?));
                }
            }
        }
        let missing = self.specs.iter().filter(|spec| spec.is_required && !seen.contains(&spec.name));
        let missing: Vec<_> = missing.map(|spec| spec.name).collect();
        if missing.is_empty() { Ok(received) } else { Err(missing_parts(missing)) }
    }

    /// A small part, in memory.
    async fn read_all(
        &mut self,
        what: &'static str,
        limit_bytes: u64,
        mut store: Option<&mut Store<'_>>,
    ) -> Result<Vec<u8>, RegistryError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if (bytes.len() + chunk.len()) as u64 > limit_bytes {
                return Err(RegistryError::TooLarge { what: what.to_owned(), limit_bytes });
            }
            if let Some(store) = &mut store {
                store.claim.came(chunk.len()).await?;
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// A large part, straight into a staged blob.
    async fn read_staged(
        &mut self,
        what: &'static str,
        limit_bytes: u64,
        mut store: Option<&mut Store<'_>>,
    ) -> Result<Staged, RegistryError> {
        let mut blob: Box<dyn StagedBlob> = match &store {
            Some(store) => store.objects.stage(store.upload_id).await?,
            None => Box::new(Nowhere),
        };
        let scanner = self.scanner.take().ok_or_else(|| self.unexpected_part(what))?;
        let mut look = Look::new(scanner);
        while let Some(chunk) = self.chunk().await? {
            if look.size_bytes + chunk.len() as u64 > limit_bytes {
                return Err(RegistryError::TooLarge { what: what.to_owned(), limit_bytes });
            }
            if let Some(store) = &mut store {
                store.claim.came(chunk.len()).await?;
            }
            blob.write(&chunk).await?;
            if let Some(store) = &mut store {
                store.claim.wrote(chunk.len());
            }
            (look, _) = look.at(chunk).await?;
        }
        let (entry, scanner) = look.finish();
        Ok(Staged { blob, entry, scanner })
    }

    fn unexpected_part(&self, name: &str) -> RegistryError {
        let shown: String = name.chars().take(80).collect();
        let list = |is_required: bool| {
            let names = self.specs.iter().filter(|spec| spec.is_required == is_required).map(|spec| spec.name);
            names.collect::<Vec<_>>().join(", ")
        };
        let (first, required, optional) = (self.first, list(true), list(false));
        let detail = format!(
            "part `{shown}` is unknown or there twice; the form has {first}{required} and optionally {optional}"
        );
        RegistryError::bad_request("unexpected_part", detail)
    }

    async fn next_part(&mut self) -> Result<Option<String>, RegistryError> {
        timeout(self.idle, self.parts.next_part()).await.map_err(|_| too_slow(self.idle))?
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        timeout(self.idle, self.parts.chunk()).await.map_err(|_| too_slow(self.idle))?
    }
}

/// Looks at bytes that are in the object store already, as at those that pass on their way there.
pub(super) async fn look_through(
    mut bytes: BlobReader,
    scanner: Scanner,
) -> Result<(FileEntry, Scanner), RegistryError> {
    let (mut look, mut chunk) = (Look::new(scanner), Vec::with_capacity(LOOK_BYTES));
    loop {
        chunk.clear();
        (&mut bytes).take(LOOK_BYTES as u64).read_to_end(&mut chunk).await?;
        if chunk.is_empty() {
            return Ok(look.finish());
        }
        (look, chunk) = look.at(chunk).await?;
    }
}

/// What is learnt of the staged part while its bytes pass.
struct Look {
    scanner: Scanner,
    is_worth_scanning: bool,
    sha256: Sha256,
    size_bytes: u64,
}

impl Look {
    fn new(scanner: Scanner) -> Box<Self> {
        Box::new(Self { scanner, is_worth_scanning: true, sha256: Sha256::new(), size_bytes: 0 })
    }

    /// Looks at the next bytes, and gives them back.
    async fn at<B: AsRef<[u8]> + Send + 'static>(
        mut self: Box<Self>,
        chunk: B,
    ) -> Result<(Box<Self>, B), RegistryError> {
        let look = move || {
            let bytes = chunk.as_ref();
            // After a wrong header the rest is taken but not looked at: the author is to hear of the other parts'
            // problems too. The scanner repeats what is wrong when it is finished.
            self.is_worth_scanning = self.is_worth_scanning && self.scanner.push(bytes);
            self.sha256.update(bytes);
            self.size_bytes += bytes.len() as u64;
            (self, chunk)
        };
        // Off the async threads: at the highest rank, measuring a chunk takes up to a tenth of a second.
        Ok(tokio::task::spawn_blocking(look).await.map_err(std::io::Error::other)?)
    }

    /// What all bytes were.
    fn finish(self) -> (FileEntry, Scanner) {
        let digest = Digest::from_bytes(self.sha256.finalize().into());
        (FileEntry { digest, size_bytes: self.size_bytes }, self.scanner)
    }
}

/// Takes the bytes of an upload that is only hashed.
struct Nowhere;

#[async_trait::async_trait]
impl StagedBlob for Nowhere {
    async fn write(&mut self, _bytes: &[u8]) -> std::io::Result<()> {
        Ok(())
    }

    async fn commit(self: Box<Self>, _digest: &Digest) -> std::io::Result<()> {
        Err(std::io::Error::other("an upload that is only hashed was to be stored"))
    }
}

fn too_slow(idle: Duration) -> RegistryError {
    RegistryError::TooSlow { idle_seconds: idle.as_secs() }
}

fn missing_parts(names: impl IntoIterator<Item = &'static str>) -> RegistryError {
    let findings = names.into_iter().map(|part| Finding {
        code: "missing_part".to_owned(),
        subject: part.to_owned(),
        message: format!("an upload has a part `{part}`"),
    });
    RegistryError::BadRequest {
        code: "missing_part",
        detail: "the upload lacks a file".to_owned(),
        findings: findings.collect(),
    }
}
