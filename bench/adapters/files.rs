//! Adapters as files, in a folder as the registry keeps it.

use std::fs;
use std::path::Path;

use souk_protocol::manifest::blob_path;
use souk_protocol::peft::Module;
use souk_protocol::{AdapterManifest, BaseModel, Digest, FileEntry};
use souk_testkit::peft::RandomAdapter;

/// What kind of adapter is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) label: &'static str,
    pub(crate) rank: usize,
    pub(crate) modules: &'static [Module],
    pub(crate) is_dora: bool,
}

pub(crate) const QUERY_VALUE: Kind =
    Kind { label: "r=8 q,v", rank: 8, modules: &[Module::Q, Module::V], is_dora: false };
pub(crate) const ALL_LINEAR: Kind =
    Kind { label: "r=16 all linear", rank: 16, modules: &Module::OF_LAYER, is_dora: false };
pub(crate) const DORA: Kind = Kind { label: "r=8 q,v DoRA", is_dora: true, ..QUERY_VALUE };

/// Publishes an adapter with numbers that follow from `seed`, and returns its digest.
pub(crate) fn publish(root: &Path, base: &BaseModel, kind: Kind, seed: u64) -> Digest {
    let Kind { rank, modules, is_dora, .. } = kind;
    let adapter = RandomAdapter { shape: &base.shape, base: &base.id, modules, rank, is_dora, size: 0.01 };
    let files = adapter.files(seed);
    let (config, weights) = (put(root, &files.config), put(root, &files.weights));
    put(root, &AdapterManifest::new(base.digest, config, weights).canonical_bytes()).digest
}

fn put(root: &Path, bytes: &[u8]) -> FileEntry {
    let entry = FileEntry { digest: Digest::of(bytes), size_bytes: bytes.len() as u64 };
    let path = root.join(blob_path(&entry.digest));
    fs::create_dir_all(path.parent().expect("a blob lies in a folder")).expect("the folder can be made");
    fs::write(path, bytes).expect("there is room for the adapters");
    entry
}
