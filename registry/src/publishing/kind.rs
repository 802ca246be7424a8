//! Kinds of artefact: which parts one has, how large they may be, and how it is checked. A new kind is a variant here,
//! a judge beside `judge.rs`, and a route that names it.

use std::sync::Arc;

use souk_protocol::manifest::{
    ADDED_TOKENS_FILE, ALLOW_NO_EFFECT_PART, BASE_PART, CARD_FILE, CONFIG_FILE, LEFT_OUT_PART, MAX_TEMPLATE_BYTES,
    MAX_TOKENIZER_FILE_BYTES, TEMPLATE_FILE, TOKENIZER_CONFIG_FILE, WEIGHTS_FILE,
};
use souk_protocol::peft::{MAX_CONFIG_BYTES, MeasuredIntake};
use souk_protocol::{AdapterManifest, BaseModel, Digest, FileEntry};

use super::judge::{Judged, judge};
use super::parts::{Goes, PartSpec, Scanner};
use super::receive::Received;
use crate::config::RegistrySettings;
use crate::error::RegistryError;
use crate::objects::StagedBlob;
use crate::report::VersionReport;

/// Name of the manifest among a version's files.
const MANIFEST_FILE: &str = "manifest.json";

/// What can be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What PEFT's `save_pretrained` writes.
    Adapter,
}

/// A checked artefact: what becomes blobs, and what becomes the rows of its version.
pub(crate) struct Artefact {
    /// SHA-256 of the manifest: the version's identity.
    pub(crate) digest: Digest,
    /// The base model that it is for.
    pub(crate) base: Digest,
    /// The highest rank among its pairs.
    pub(crate) rank: usize,
    /// What is to be known of it.
    pub(crate) report: VersionReport,
    /// The files of the version, the manifest included.
    pub(crate) files: Vec<(&'static str, FileEntry)>,
    /// The contents of the files that are not in `staged`.
    pub(crate) contents: Vec<Vec<u8>>,
    /// The staged file.
    pub(crate) staged: (Box<dyn StagedBlob>, Digest),
}

impl Kind {
    /// The word in metrics and logs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Adapter => "adapter",
        }
    }

    /// The parts that an upload of this kind may have.
    pub(crate) fn parts(self, settings: &RegistrySettings) -> Vec<PartSpec> {
        match self {
            Self::Adapter => {
                let held =
                    |name, limit_bytes| PartSpec { name, is_required: false, limit_bytes, goes: Goes::IntoMemory };
                let required = |part| PartSpec { is_required: true, ..part };
                let weights = PartSpec { goes: Goes::IntoBlob, ..held(WEIGHTS_FILE, settings.max_adapter_bytes) };
                vec![
                    required(held(CONFIG_FILE, MAX_CONFIG_BYTES as u64)),
                    required(weights),
                    held(CARD_FILE, settings.max_card_bytes),
                    held(TEMPLATE_FILE, MAX_TEMPLATE_BYTES as u64),
                    held(TOKENIZER_CONFIG_FILE, MAX_TOKENIZER_FILE_BYTES),
                    held(ADDED_TOKENS_FILE, MAX_TOKENIZER_FILE_BYTES),
                    held(BASE_PART, 4096),
                    held(ALLOW_NO_EFFECT_PART, 16),
                    held(LEFT_OUT_PART, 128 << 10),
                ]
            }
        }
    }

    /// What looks at the staged part.
    pub(crate) fn scanner(self) -> Scanner {
        match self {
            Self::Adapter => Scanner::Weights(Box::new(MeasuredIntake::new())),
        }
    }

    /// Everything that is wrong with what was received, or what is to be published.
    pub(crate) async fn check(self, received: Received, bases: Arc<[BaseModel]>) -> Result<Artefact, RegistryError> {
        match self {
            Self::Adapter => check_adapter(received, bases).await,
        }
    }
}

async fn check_adapter(mut received: Received, bases: Arc<[BaseModel]>) -> Result<Artefact, RegistryError> {
    let staged = received.take_staged(WEIGHTS_FILE)?;
    let Scanner::Weights(intake) = staged.scanner;
    // Off the async threads: patterns and templates take a while to try.
    let judging = tokio::task::spawn_blocking(move || {
        let judged = judge(received.held(), *intake, &bases)?;
        Ok::<_, RegistryError>((received, judged))
    });
    let (mut received, judged) = judging.await.map_err(std::io::Error::other)??;
    let Judged { base, rank, template, report } = judged;
    let config = received.take(CONFIG_FILE)?;
    let card = received.take(CARD_FILE).ok();
    let template = template.map(String::into_bytes);

    let mut manifest = AdapterManifest::new(base, entry_of(&config), staged.entry.clone());
    manifest.chat_template = template.as_deref().map(entry_of);
    let manifest_bytes = manifest.canonical_bytes();
    let mut files = vec![
        (CONFIG_FILE, manifest.config.clone()),
        (WEIGHTS_FILE, manifest.weights.clone()),
        (MANIFEST_FILE, entry_of(&manifest_bytes)),
    ];
    files.extend(manifest.chat_template.clone().map(|entry| (TEMPLATE_FILE, entry)));
    files.extend(card.as_deref().map(|card| (CARD_FILE, entry_of(card))));
    Ok(Artefact {
        digest: manifest.digest(),
        base,
        rank,
        report,
        files,
        contents: [Some(config), Some(manifest_bytes), template, card].into_iter().flatten().collect(),
        staged: (staged.blob, staged.entry.digest),
    })
}

fn entry_of(bytes: &[u8]) -> FileEntry {
    FileEntry { digest: Digest::of(bytes), size_bytes: bytes.len() as u64 }
}
