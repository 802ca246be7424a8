//! Real adapters on the real base model, from a content-addressed folder through the store.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::SafeTensors;
use souk_engine::device_memory::DeviceMemory;
use souk_kernels::SlabType;
use souk_kernels::cpu::LoraPair;
use souk_models::adapter::{LayerAdapter, PackedAdapter};
use souk_models::base::{self, FetchConfig, LoadedBase};
use souk_node::adapters::{AdapterLimits, AdapterStore, FolderSource, Tier, Tiers};
use souk_protocol::manifest::{CONFIG_FILE, WEIGHTS_FILE, blob_path};
use souk_protocol::{AdapterManifest, Digest, FileEntry};

/// A pair's name in PEFT and its place in a layer.
type Place = (&'static str, fn(&LayerAdapter) -> Option<&LoraPair>);

const PLACES: [Place; 7] = [
    ("self_attn.q_proj", |layer| layer.q.as_ref()),
    ("self_attn.k_proj", |layer| layer.k.as_ref()),
    ("self_attn.v_proj", |layer| layer.v.as_ref()),
    ("self_attn.o_proj", |layer| layer.o.as_ref()),
    ("mlp.gate_proj", |layer| layer.gate.as_ref()),
    ("mlp.up_proj", |layer| layer.up.as_ref()),
    ("mlp.down_proj", |layer| layer.down.as_ref()),
];

/// What a reference adapter has at a place: rank and scale.
type Expected = fn(usize, &str) -> Option<(usize, f32)>;

/// The reference adapters with what their configurations say.
const FIXTURES: [(&str, Expected); 9] = [
    ("fixtures/adapters/qv-r8", |_, name| qv(name, (8, 2.0))),
    ("fixtures/adapters/all-linear-r4", |_, _| Some((4, 2.0))),
    ("fixtures/adapters/rslora-attn-r16", |_, name| name.starts_with("self_attn").then_some((16, 2.0))),
    ("fixtures/adapters/patterns", |layer, name| match (layer, name) {
        (0, "self_attn.q_proj") => Some((6, 8.0 / 6.0)),
        (_, "mlp.down_proj") => Some((2, 4.0)),
        (_, "mlp.gate_proj") => Some((4, 4.0)),
        _ => Some((4, 2.0)),
    }),
    ("fixtures/adapters/dora-qv-r4", |_, name| qv(name, (4, 2.0))),
    ("fixtures/adapters/layers-mlp-r8", |layer, name| {
        ([0, 5, 29].contains(&layer) && matches!(name, "mlp.gate_proj" | "mlp.up_proj")).then_some((8, 2.0))
    }),
    ("data/adapters/sst2", |_, name| qv(name, (8, 2.0))),
    ("data/adapters/sarcasm", |_, name| qv(name, (8, 2.0))),
    ("data/adapters/address_json", |_, name| qv(name, (8, 2.0))),
];

fn qv(name: &str, value: (usize, f32)) -> Option<(usize, f32)> {
    matches!(name, "self_attn.q_proj" | "self_attn.v_proj").then_some(value)
}

fn shared(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(name)
}

/// The cached base model.
fn smollm2() -> LoadedBase {
    let cache = std::env::var_os("SOUK_CACHE_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache");
        std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("souk")
    });
    let path = cache.join("models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(path.exists(), "{} is missing; run: make models", path.display());
    let source = path.to_str().expect("the cache's path is plain text").parse().unwrap();
    base::load(&source, &FetchConfig::new(cache), &mut |_| {}).expect("the cached model is sound")
}

/// Puts an adapter's files into a folder of blobs as the registry does, and returns its digest.
fn publish(root: &Path, folder: &Path, base: Digest) -> Digest {
    let put = |bytes: &[u8]| {
        let entry = FileEntry { digest: Digest::of(bytes), size_bytes: bytes.len() as u64 };
        let path = root.join(blob_path(&entry.digest));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        entry
    };
    let [config, weights] = [CONFIG_FILE, WEIGHTS_FILE].map(|file| put(&fs::read(folder.join(file)).unwrap()));
    put(&AdapterManifest::new(base, config, weights).canonical_bytes()).digest
}

/// Compares every slab with the file, which has brain floats.
fn check(name: &str, adapter: &PackedAdapter, folder: &Path, expected: Expected) {
    let file = fs::read(folder.join(WEIGHTS_FILE)).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let read = |tensor: &str| -> Vec<f32> {
        let bytes = tensors.tensor(tensor).unwrap().data().to_vec();
        bytes.chunks_exact(2).map(|b| f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16)).collect()
    };
    for (layer, adapter) in adapter.layers.iter().enumerate() {
        assert!(adapter.attn_norm.is_none() && adapter.ffn_norm.is_none());
        for (module, place) in PLACES {
            let (pair, expected) = (place(adapter), expected(layer, module));
            assert_eq!(pair.map(LoraPair::rank), expected.map(|(rank, _)| rank), "{name}: {layer} {module}");
            let (Some(pair), Some((_, scale))) = (pair, expected) else { continue };
            let prefix = format!("base_model.model.model.layers.{layer}.{module}");
            assert_eq!(pair.slab_type(), SlabType::Bf16);
            assert_eq!(pair.a_f32(), read(&format!("{prefix}.lora_A.weight")), "{name}: {prefix}");
            for (packed, file) in pair.b_f32().iter().zip(read(&format!("{prefix}.lora_B.weight"))) {
                let error = (packed - file * scale).abs();
                assert!(error <= (file * scale).abs() / 256.0, "{name}: {prefix}: {packed} from {file}");
            }
            let has_magnitude = tensors.tensor(&format!("{prefix}.lora_magnitude_vector")).is_ok();
            assert_eq!(pair.gain().is_some(), has_magnitude, "{name}: {prefix}");
            assert!(pair.gain().unwrap_or_default().iter().all(|gain| gain.is_finite() && *gain != 0.0));
        }
    }
    assert!(adapter.lm_head.is_none() && adapter.final_norm.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(has_shared), ignore = "needs ../shared/fixtures")]
async fn every_reference_adapter_is_loaded_with_the_ranks_and_scales_of_its_configuration() {
    let LoadedBase { model, weights } = smollm2();
    let folder = tempfile::tempdir().unwrap();
    let digests = FIXTURES.map(|(name, _)| publish(folder.path(), &shared(name), model.digest));
    let source = Arc::new(FolderSource::new(folder.path()));
    let tiers = Tiers { memory: DeviceMemory::split(1, 1 << 30).unwrap(), disk: None };
    let store = AdapterStore::new(source, Arc::new(model), Arc::new(weights), AdapterLimits::default(), tiers).unwrap();
    let mut leases = Vec::new();
    for (digest, (name, expected)) in digests.iter().zip(FIXTURES) {
        let lease = store.acquire(digest).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let packed = lease.slabs::<PackedAdapter>().expect("the device is the CPU");
        check(name, packed, &shared(name), expected);
        leases.push(lease);
    }
    let stats = store.stats();
    let sum: usize = leases.iter().map(|lease| lease.size_bytes).sum();
    assert_eq!((stats.totals.device_bytes, stats.totals.host_bytes, stats.totals.loads), (sum, sum, 9));
    assert!(stats.resident.iter().all(|adapter| adapter.tier == Tier::Device && adapter.users == 1));
    println!("9 adapters, {sum} bytes, loaded in {:?} in all", stats.totals.load_time);
}
