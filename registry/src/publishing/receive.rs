//! Takes the parts of an upload in.

use std::time::Duration;

use axum::extract::Multipart;
use axum::extract::multipart::Field;
use bytes::Bytes;
use semver::Version;
use sha2::{Digest as _, Sha256};
use souk_protocol::manifest::{CARD_FILE, CONFIG_FILE, WEIGHTS_FILE};
use souk_protocol::peft::{MAX_CONFIG_BYTES, WeightsIntake};
use souk_protocol::{Digest, FileEntry};
use tokio::time::timeout;

use super::body::HeldBytes;
use crate::catalog::parse_version;
use crate::error::{Finding, RegistryError};
use crate::objects::{ObjectStore, StagedBlob};
use crate::registry::UploadLimits;

/// Name of the first part.
const VERSION_PART: &str = "version";
/// Longest version number that is read; what is longer is refused by the parser of versions.
const VERSION_BYTES: u64 = 256;

/// The parts of one request, in the order in which they come.
pub(super) struct Parts {
    multipart: Multipart,
    held_bytes: HeldBytes,
    limits: UploadLimits,
}

/// All parts, checked for presence and size and nothing else.
pub(super) struct Received {
    pub(super) config: Vec<u8>,
    pub(super) weights: Weights,
    pub(super) card: Option<Vec<u8>>,
}

/// The weights: staged, not visible yet.
pub(super) struct Weights {
    pub(super) blob: Box<dyn StagedBlob>,
    pub(super) entry: FileEntry,
    pub(super) intake: WeightsIntake,
}

impl Received {
    /// A digest over all that was sent, however it was cut into parts and chunks.
    pub(super) fn fingerprint(&self, number: &Version) -> Digest {
        let card = self.card.as_deref().map(Digest::of);
        let text = format!("{number}\n{}\n{}\n{card:?}", Digest::of(&self.config), self.weights.entry.digest.hex());
        Digest::of(text.as_bytes())
    }
}

impl Parts {
    pub(super) fn new(multipart: Multipart, held_bytes: HeldBytes, limits: UploadLimits) -> Self {
        Self { multipart, held_bytes, limits }
    }

    /// Reads the first part, which is the version number: it is reserved before anything large is taken.
    pub(super) async fn version(&mut self) -> Result<Version, RegistryError> {
        let idle = self.limits.idle_timeout;
        let field = next_field(&mut self.multipart, idle).await?;
        let field = field.filter(|field| field.name() == Some(VERSION_PART)).ok_or_else(|| {
            RegistryError::bad_request("version_first", "the first part of an upload is `version`, for example 1.0.0")
        })?;
        let bytes = Part { field, held_bytes: &self.held_bytes, idle }.read_all(VERSION_PART, VERSION_BYTES).await?;
        let text = String::from_utf8_lossy(&bytes);
        parse_version(&text).map_err(|detail| RegistryError::BadRequest {
            code: "invalid_version",
            detail: detail.clone(),
            findings: vec![Finding::field(VERSION_PART, detail)],
        })
    }

    /// Reads the files, in any order.
    pub(super) async fn receive(&mut self, objects: &dyn ObjectStore) -> Result<Received, RegistryError> {
        let (mut config, mut weights, mut card) = (None, None, None);
        let idle = self.limits.idle_timeout;
        while let Some(field) = next_field(&mut self.multipart, idle).await? {
            let name = field.name().unwrap_or_default().to_owned();
            let part = Part { field, held_bytes: &self.held_bytes, idle };
            match name.as_str() {
                CONFIG_FILE if config.is_none() => {
                    config = Some(part.read_all(CONFIG_FILE, MAX_CONFIG_BYTES as u64).await?);
                }
                WEIGHTS_FILE if weights.is_none() => {
                    weights = Some(part.read_weights(objects, self.limits.weights_bytes).await?);
                }
                CARD_FILE if card.is_none() => {
                    card = Some(part.read_all(CARD_FILE, self.limits.card_bytes).await?);
                }
                _ => return Err(unexpected_part(&name)),
            }
        }
        match (config, weights) {
            (Some(config), Some(weights)) => Ok(Received { config, weights, card }),
            (config, weights) => Err(missing_parts(config.is_none(), weights.is_none())),
        }
    }
}

/// One part while it is read.
struct Part<'a> {
    field: Field<'a>,
    held_bytes: &'a HeldBytes,
    idle: Duration,
}

impl Part<'_> {
    async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let chunk = timeout(self.idle, self.field.chunk()).await.map_err(|_| too_slow(self.idle))?;
        let chunk = chunk.map_err(|error| malformed(&error))?;
        self.held_bytes.handed_out(chunk.as_ref().map_or(0, Bytes::len));
        Ok(chunk)
    }

    /// A small part, in memory.
    async fn read_all(mut self, what: &'static str, limit_bytes: u64) -> Result<Vec<u8>, RegistryError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if (bytes.len() + chunk.len()) as u64 > limit_bytes {
                return Err(RegistryError::TooLarge { what: what.to_owned(), limit_bytes });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// The weights, straight into a staged blob.
    async fn read_weights(mut self, objects: &dyn ObjectStore, limit_bytes: u64) -> Result<Weights, RegistryError> {
        let mut blob = objects.stage().await?;
        let mut sha256 = Sha256::new();
        let mut intake = WeightsIntake::new();
        let mut header_is_good = true;
        let mut size_bytes = 0;
        while let Some(chunk) = self.chunk().await? {
            size_bytes += chunk.len() as u64;
            if size_bytes > limit_bytes {
                return Err(RegistryError::TooLarge { what: WEIGHTS_FILE.to_owned(), limit_bytes });
            }
            // After a wrong header the rest is taken but not looked at: the author is to hear of the other parts'
            // problems too. The intake repeats what is wrong when it is finished.
            header_is_good = header_is_good && intake.push(&chunk).is_ok();
            sha256.update(&chunk);
            blob.write(&chunk).await?;
        }
        let digest = Digest::from_bytes(sha256.finalize().into());
        Ok(Weights { blob, entry: FileEntry { digest, size_bytes }, intake })
    }
}

async fn next_field(multipart: &mut Multipart, idle: Duration) -> Result<Option<Field<'_>>, RegistryError> {
    let field = timeout(idle, multipart.next_field()).await.map_err(|_| too_slow(idle))?;
    field.map_err(|error| malformed(&error))
}

fn too_slow(idle: Duration) -> RegistryError {
    RegistryError::TooSlow { idle_seconds: idle.as_secs() }
}

/// The body is not multipart, or ends before it should: mostly a client that went away.
fn malformed(error: &axum::extract::multipart::MultipartError) -> RegistryError {
    RegistryError::bad_request("malformed_multipart", error.body_text())
}

fn unexpected_part(name: &str) -> RegistryError {
    let shown: String = name.chars().take(80).collect();
    let detail = format!(
        "part `{shown}` is unknown or there twice; an upload has {VERSION_PART}, {CONFIG_FILE}, {WEIGHTS_FILE} and optionally {CARD_FILE}"
    );
    RegistryError::bad_request("unexpected_part", detail)
}

fn missing_parts(config: bool, weights: bool) -> RegistryError {
    let missing = [(config, CONFIG_FILE), (weights, WEIGHTS_FILE)].into_iter().filter(|(is_missing, _)| *is_missing);
    let findings = missing.map(|(_, part)| Finding {
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
