//! Adapters for the base model of the samples, and a source that a test holds the gate of.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use serde_json::{Value, json};
use souk_engine::device_memory::{DeviceMemory, PAGE_BYTES};
use souk_models::base::LlamaWeights;
use souk_protocol::{AdapterManifest, BaseModel, Digest, Fetchable, FileEntry, FileGrant};
use souk_testkit::Random;
pub(crate) use souk_testkit::base::SMALL as SHAPE;
use souk_testkit::peft::{Stored, Tensor, weights_file};
use tokio::sync::Semaphore;

use super::source::{AdapterFiles, AdapterSource, SourceError};

/// The base model of the samples.
pub(crate) fn base() -> BaseModel {
    souk_testkit::base::base("tiny", SHAPE)
}

pub(crate) fn weights() -> LlamaWeights {
    souk_models::samples::weights(SHAPE, numbers)
}

/// Numbers between -1 and 1 that follow from `seed`.
pub(crate) fn numbers(seed: u64, count: usize) -> Vec<f32> {
    Random::new(seed).floats(count)
}

/// A pool with more room for adapters than any test needs.
pub(crate) fn ample_memory() -> DeviceMemory {
    DeviceMemory::split(PAGE_BYTES, 1 << 30).expect("either side has pages")
}

/// An adapter on `v_proj` of both layers. Its packed size grows with the rank: see [`SIZE_PER_RANK`].
pub(crate) fn adapter_files(rank: usize, changes: &Value) -> AdapterFiles {
    let paths = [0, 1].map(|layer| format!("layers.{layer}.self_attn.v_proj"));
    let tensors: Vec<_> = paths
        .iter()
        .flat_map(|path| {
            [
                Tensor::new(path, "lora_A.weight", Stored::F32, &[rank, SHAPE.hidden_size]),
                Tensor::new(path, "lora_B.weight", Stored::F32, &[SHAPE.kv_size(), rank]),
            ]
        })
        .collect();
    let mut config = json!({"peft_type": "LORA", "r": rank, "target_modules": ["v_proj"]});
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    files_of(config.to_string().into_bytes(), weights_file(&tensors), Digest::of(b"tiny"))
}

/// Packed bytes for each rank of [`adapter_files`]: in both layers one row of A and one column of B, each one vector
/// of 16 halves.
pub(crate) const SIZE_PER_RANK: usize = 2 * 2 * 32;

/// Files with the manifest that fits them.
pub(crate) fn files_of(config: Vec<u8>, weights: Vec<u8>, base: Digest) -> AdapterFiles {
    let entry = |bytes: &[u8]| FileEntry { digest: Digest::of(bytes), size_bytes: bytes.len() as u64 };
    AdapterFiles { manifest: AdapterManifest::new(base, entry(&config), entry(&weights)), config, weights }
}

/// A source in memory that counts fetches and lets them through one permit at a time.
pub(crate) struct GatedSource {
    files: HashMap<Digest, AdapterFiles>,
    /// The only grant that opens them, if one is asked for.
    grant: Option<FileGrant>,
    pub(crate) gate: Semaphore,
    pub(crate) num_fetches: AtomicUsize,
}

impl GatedSource {
    /// A source of these adapters, and their digests. Its gate is open for `num_open` fetches.
    pub(crate) fn new(adapters: impl IntoIterator<Item = AdapterFiles>, num_open: usize) -> (Arc<Self>, Vec<Digest>) {
        Self::that_asks_for(None, adapters, num_open)
    }

    /// One that hands files out with a grant alone.
    pub(crate) fn that_asks_for(
        grant: Option<FileGrant>,
        adapters: impl IntoIterator<Item = AdapterFiles>,
        num_open: usize,
    ) -> (Arc<Self>, Vec<Digest>) {
        let adapters: Vec<_> = adapters.into_iter().map(|files| (files.manifest.digest(), files)).collect();
        let digests = adapters.iter().map(|(digest, _)| *digest).collect();
        let (gate, num_fetches) = (Semaphore::new(num_open), AtomicUsize::new(0));
        (Arc::new(Self { files: adapters.into_iter().collect(), grant, gate, num_fetches }), digests)
    }

    pub(crate) fn num_fetches(&self) -> usize {
        self.num_fetches.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl AdapterSource for GatedSource {
    async fn fetch(
        &self,
        Fetchable { digest, grant }: &Fetchable,
        _max_weights_bytes: u64,
    ) -> Result<AdapterFiles, SourceError> {
        self.num_fetches.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.expect("the gate is never closed").forget();
        match &self.grant {
            Some(good) if grant.as_ref() != Some(good) => {
                return Err(SourceError::NotGranted("not this one".to_owned()));
            }
            _ => {}
        }
        self.files.get(digest).cloned().ok_or(SourceError::NotFound(*digest))
    }

    fn asks_for_grants(&self) -> bool {
        self.grant.is_some()
    }
}
